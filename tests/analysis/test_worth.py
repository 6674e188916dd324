"""What the scores of a task are worth: learned, not learned, or unknown, and what stands in the way."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from synthetic import RecordFactory
from worths import prospects, record, study

from seekr_tune.analysis.ledger import read_prospects, table_path, trials_table, write_ledger
from seekr_tune.analysis.ranking import rank, study_measures
from seekr_tune.analysis.ranking_tables import void_lines
from seekr_tune.analysis.sampled import interval, sampled
from seekr_tune.analysis.table import as_lines
from seekr_tune.analysis.worth import runs_of_records, study_worths, task_worths
from seekr_tune.analysis.worth_lines import data_warnings, warnings, worth_table


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    values = np.array([100.0, 0.0, -100.0, 100.0, 37.5, 0.0, 100.0])
    wanted = ttest_1samp(values, 0.0).confidence_interval(0.95)
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    assert interval(float(values.mean()), error, len(values)) == pytest.approx((wanted.low, wanted.high))


def test_a_task_is_learned_where_it_is_above_the_floor_beyond_its_interval(make_record: RecordFactory) -> None:
    """The floor is 20 and the interval reaches 10.1 points: 29 is not above it, 31 is."""
    found = task_worths(runs_of_records([record(make_record, "a", [90.0, 29.0, 31.0])]))
    assert [one.is_learned for one in found] == [True, False, True]
    assert [one.floor for one in found] == [20.0] * 3 and found[0].zero_shot is None
    (line,) = warnings(found)
    assert line == (
        "NOT LEARNED, in % just after learning: rivers (29.0, one constant answer 20.0); raise recipe.epochs, change "
        "recipe.learning_rate, give more train rows or a larger model"
    )
    assert found[1].own is not None and found[1].own.low == pytest.approx(9 - 5 * 2.0227, abs=1e-3)


def test_a_score_below_the_floor_is_not_learned_however_sure(make_record: RecordFactory) -> None:
    (first, *_) = task_worths(runs_of_records([record(make_record, "a", [0.0, 90.0, 90.0], error=0.0)]))
    assert first.is_learned is False


def test_an_earlier_version_is_unknown_and_never_not_learned(make_record: RecordFactory) -> None:
    earlier = record(make_record, "a", [0.0, 0.0, 0.0], error=-1.0, rows=())
    found = task_worths(runs_of_records([earlier]))
    assert [one.is_learned for one in found] == [None] * 3 and not list(warnings(found))
    text = "\n".join(as_lines(worth_table(found)))
    assert "NOT LEARNED" not in text and text.count("unknown") >= 3 and "an earlier version ran it" in text
    (row,) = trials_table([earlier]).to_pylist()
    assert {row[name] for name in ("op_floor", "tasks_learned", "op_sample_error", "prompts_cut")} == {None}


def test_runs_that_answer_the_same_samples_are_no_more_sure_together(make_record: RecordFactory) -> None:
    one = task_worths(runs_of_records([record(make_record, "a", [29.0] * 3)]))
    many = task_worths(runs_of_records([record(make_record, str(i), [29.0] * 3) for i in range(20)]))
    assert one[0].own == many[0].own and many[0].is_learned is False


def test_joint_training_is_judged_by_its_last_row_and_told_beside(make_record: RecordFactory) -> None:
    runs = [record(make_record, "a", [90.0] * 3), record(make_record, "j", [21.0] * 3, method="joint", role="bound")]
    found = task_worths(runs_of_records(runs))
    assert [one.is_learned for one in found] == [True] * 3
    assert found[0].joint is not None and found[0].joint.score == 21.0
    (line,) = warnings(found)
    assert line.startswith("joint training did not learn, in %: flags (21.0, one constant answer 20.0), rivers (21.0,")
    alone = task_worths(runs_of_records(runs[1:]))
    assert alone[0].is_learned is False and "NOT LEARNED, in % after joint training: flags (21.0," in next(
        warnings(alone)
    )


def test_what_is_cut_is_told_with_the_field_that_mends_it(make_record: RecordFactory) -> None:
    rows = prospects(prompts_cut=1.0, answers_cut=0.3, unknown_tokens=0.02, longest_prompt=600, longest_answer=70)
    lines = list(warnings(task_worths(runs_of_records([record(make_record, "a", [90.0] * 3, rows=rows)]))))
    assert lines == [
        "prompts are cut on the left: flags (100 %), rivers (100 %), birds (100 %); raise recipe.max_prompt_tokens "
        "from 512 (to 600 for all, if the model has so many positions)",
        "answers are cut: flags (30 %), rivers (30 %), birds (30 %); raise recipe.max_answer_tokens from 64 (to 70 for "
        "all, if the model has so many positions)",
        "tokens are unknown to the model: flags (2 %), rivers (2 %), birds (2 %); choose another model, or clean the "
        "texts",
    ]
    slight = prospects(prompts_cut=0.01, answers_cut=0.01, unknown_tokens=0.01)
    assert not list(warnings(task_worths(runs_of_records([record(make_record, "a", [90.0] * 3, rows=slight)]))))


@pytest.mark.parametrize(
    ("longest", "positions", "limits"),
    [
        ((600, 70), 2048, (600, 70)),
        ((600, 70), 640, (570, 70)),
        ((600, 3797), 640, (512, 128)),  # 3797 was told for a model of 512 positions
        ((3797, 70), 640, (570, 70)),
        ((3797, 3797), 576, (512, 64)),
    ],
)
def test_the_limits_that_are_told_are_those_that_the_model_takes(
    longest: tuple[int, int], positions: int, limits: tuple[int, int]
) -> None:
    """Beginning with 512 and 64; both limits together never exceed the positions, and none is lowered."""
    rows = prospects(prompts_cut=1.0, answers_cut=1.0, longest_prompt=longest[0], longest_answer=longest[1])
    lines = [line for line in data_warnings(rows, (512, 64), positions) if "are cut" in line]
    fields, before = ("recipe.max_prompt_tokens", "recipe.max_answer_tokens"), (512, 64)
    told = tuple(
        int(found[1]) if (found := re.search(rf"raise {field} from \d+ \(?to (\d+)", line)) else now
        for line, field, now in zip(lines, fields, before, strict=True)
    )
    assert told == limits and sum(told) <= positions
    for line, reached, needed in zip(lines, limits, longest, strict=True):
        assert ("take a model with more positions" in line) is (reached < needed)


def test_one_answer_for_all_is_called_that(make_record: RecordFactory) -> None:
    """More epochs do not help: there is nothing above 100."""
    constant = prospects(floor=100.0)
    (line,) = warnings(task_worths(runs_of_records([record(make_record, "a", [100.0] * 3, error=0.0, rows=constant)])))
    assert line.startswith("CANNOT BE LEARNED: one constant answer is right for every scored sample of flags, rivers")
    assert "epochs" not in line and line in list(data_warnings(constant, (512, 64)))
    (line,) = data_warnings(prospects(floor=0.0, ceiling=0.0), (512, 64))
    assert line.startswith("CANNOT BE LEARNED: a perfect model scores no more than one constant answer: flags (0.0 %)")


def test_a_line_names_no_more_than_fit_in_it() -> None:
    rows = tuple(
        row.model_copy(update={"task": f"{row.task}{i}"}) for i in range(5) for row in prospects(prompts_cut=1.0)
    )
    (line,) = data_warnings(rows, (32, 64), 512)
    assert line.count("(100 %)") == 6 and "and 9 more; raise recipe.max_prompt_tokens from 32 (to 48 for all)" in line


def test_the_ledger_says_what_the_records_say(make_record: RecordFactory, tmp_path: Path) -> None:
    records = study(make_record, 10.0, 80.0, 70.0)
    write_ledger(tmp_path, records, {})
    assert study_worths(tmp_path) == task_worths(runs_of_records(records))
    row = trials_table(records).to_pylist()[-1]
    assert (row["op_floor"], row["op_ceiling"], row["tasks_learned"], row["scored_samples"]) == (20.0, 100.0, 3, 120)
    assert row["op_sample_error"] == pytest.approx(np.sqrt(3 * 25) / 3)
    table_path(tmp_path, "prospects").unlink()  # as an earlier version left it
    assert read_prospects(tmp_path).num_rows == 0
    assert [one.is_known for one in study_worths(tmp_path)] == [False] * 3


def test_a_good_study_has_gains_a_front_and_no_warning(make_record: RecordFactory) -> None:
    ranking = rank(trials_table(study(make_record, 10.0, 80.0, 70.0)))
    assert (ranking.no_gap, ranking.void) == (None, None) and not void_lines(ranking)
    assert [row["why_no_gain"] for row in ranking.rows] == [None] * 3
    gains = {row["trial"]: row["normalised_gain"] for row in ranking.rows}
    assert gains["t0"] == pytest.approx(np.mean([(70 - 10) / (80 - 10)] * 3))
    assert any(row["pareto"] for row in ranking.rows) and study_measures(ranking).samples_to_target[0.75] is not None


def test_a_gap_within_its_interval_is_no_gap(make_record: RecordFactory) -> None:
    """Standard errors of 5 points a task are 4.1 of the difference of two OPs, so 8 points are within the interval."""
    ranking = rank(trials_table(study(make_record, 50.0, 58.0, 57.0)))
    assert ranking.no_gap is not None and "joint training (58.0 %) is not above no replay (50.0 %)" in ranking.no_gap
    for row in ranking.rows:
        assert row["normalised_gain"] is None and row["gain_per_replayed_sample"] is None
        assert row["why_no_gain"] == ranking.no_gap and not row["knee"]
        assert row["normalised_gain_low"] is None and row["pareto"] is not None
    measures = study_measures(ranking)
    assert measures.hypervolume is None and set(measures.samples_to_target.values()) == {None}
    assert rank(trials_table(study(make_record, 50.0, 59.0, 57.0))).no_gap is None


def test_a_gap_between_two_models_that_learned_nothing_is_no_gap(make_record: RecordFactory) -> None:
    """The study that was said to close 90 % of the gap: 3.8, 12.9 and 12 % where one constant answer has 20 %."""
    ranking = rank(trials_table(study(make_record, 3.8, 12.9, 12.0, error=2.0)))
    assert ranking.no_gap is not None and ranking.no_gap.startswith("neither joint training (12.9 %)")
    assert ranking.void is not None and "0 of 15 scores are above the best constant answer" in ranking.void
    assert {row["normalised_gain"] for row in ranking.rows} == {None}
    assert {row["pareto"] for row in ranking.rows} == {None} == {row["knee"] for row in ranking.rows}
    assert {row["rank"] for row in ranking.rows} == {None} == {row["beats_seqft"] for row in ranking.rows}
    (line,) = void_lines(ranking)
    assert line.startswith("No task was learned: ") and line.endswith("there is no best one, no front, no gain.")


def test_gaps_of_an_earlier_version_stay_what_they_were(make_record: RecordFactory) -> None:
    ranking = rank(trials_table(study(make_record, 3.8, 12.9, 12.0, error=-1.0, rows=())))
    assert (ranking.no_gap, ranking.void) == (None, None)
    gains = {row["trial"]: row["normalised_gain"] for row in ranking.rows}
    assert gains["t2"] == pytest.approx((10 - 3.8) / 9.1)


def test_where_there_are_no_bounds_the_reason_is_said(make_record: RecordFactory) -> None:
    (row,) = rank(trials_table([record(make_record, "a", [90.0] * 3)])).rows
    assert row["why_no_gain"] == "no finished bound seqft and no joint with its order and seed (study.bounds)"


def test_tasks_with_other_floors_add_up_in_the_adjusted_score(make_record: RecordFactory) -> None:
    """(60 - 20) / 80, (20 - 20) / 80 and (10 - 20) / 80: better than, as good as, and worse than a constant answer."""
    one = record(make_record, "a", [60.0, 20.0, 10.0])
    assert sampled(one, "eval").op_adjusted == pytest.approx((0.5 + 0.0 - 0.125) / 3)
    assert (
        sampled(record(make_record, "b", [60.0, 20.0, 10.0], rows=prospects(floor=100.0)), "eval").op_adjusted is None
    )
    assert sampled(record(make_record, "c", [60.0, 20.0, 10.0], rows=()), "eval").op_adjusted is None
