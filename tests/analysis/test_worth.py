"""What the scores of a task are worth: learned, not learned, or unknown, and what stands in the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from synthetic import RecordFactory
from worths import prospects, record, study

from seekr_tune.analysis.ledger import read_prospects, table_path, trials_table, write_ledger
from seekr_tune.analysis.ranking import rank, study_measures
from seekr_tune.analysis.ranking_tables import void_lines
from seekr_tune.analysis.sampled import interval
from seekr_tune.analysis.table import as_lines
from seekr_tune.analysis.worth import runs_of_records, study_worths, task_worths
from seekr_tune.analysis.worth_lines import warnings, worth_table


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
    assert line.startswith("rivers: NOT LEARNED (raise recipe.epochs") and "29.0 % just after learning, 20.0 %" in line
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
    assert all("joint training did not learn it" in line for line in warnings(found))
    alone = task_worths(runs_of_records(runs[1:]))
    assert alone[0].is_learned is False and "after joint training" in next(warnings(alone))


def test_what_is_cut_is_told_with_the_field_that_mends_it(make_record: RecordFactory) -> None:
    rows = prospects(prompts_cut=1.0, answers_cut=0.3, unknown_tokens=0.02)
    (line, *_) = warnings(task_worths(runs_of_records([record(make_record, "a", [90.0] * 3, rows=rows)])))
    assert "100 % of its prompts are cut on the left: raise recipe.max_prompt_tokens from 512 (to 48 for all)" in line
    assert "30 % of its answers are cut: raise recipe.max_answer_tokens" in line
    assert "2 % of its tokens are unknown" in line and "NOT LEARNED" not in line
    slight = prospects(prompts_cut=0.01, answers_cut=0.01, unknown_tokens=0.01)
    assert not list(warnings(task_worths(runs_of_records([record(make_record, "a", [90.0] * 3, rows=slight)]))))


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
    assert len(void_lines(ranking)) == 2


def test_gaps_of_an_earlier_version_stay_what_they_were(make_record: RecordFactory) -> None:
    ranking = rank(trials_table(study(make_record, 3.8, 12.9, 12.0, error=-1.0, rows=())))
    assert (ranking.no_gap, ranking.void) == (None, None)
    gains = {row["trial"]: row["normalised_gain"] for row in ranking.rows}
    assert gains["t2"] == pytest.approx((10 - 3.8) / 9.1)


def test_where_there_are_no_bounds_the_reason_is_said(make_record: RecordFactory) -> None:
    (row,) = rank(trials_table([record(make_record, "a", [90.0] * 3)])).rows
    assert row["why_no_gain"] == "no finished bound seqft and no joint with its order and seed (study.bounds)"
