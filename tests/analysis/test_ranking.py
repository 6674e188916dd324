from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume
from synthetic import RecordFactory

from seekr_tune.analysis.front import Outcome, hypervolume, pareto_front, samples_to_target
from seekr_tune.analysis.ledger import trials_table
from seekr_tune.analysis.measures import FORMULAS
from seekr_tune.analysis.ranking import COMPARED, Ranking, rank, study_measures
from seekr_tune.analysis.record import TrialRecord
from seekr_tune.errors import StudyError

PUBLISHED = {  # docs/method.md section 5, TRACE order 1; replay percent -> 8 tasks of 5000 samples
    "seqft": ("seqft", 47.63, 0),
    "replay-1": ("replay", 48.47, 400),
    "derpp-1": ("derpp", 49.22, 400),
    "seekr-1": ("seekr", 54.99, 400),
    "replay-10": ("replay", 55.67, 4000),
    "derpp-10": ("derpp", 55.01, 4000),
    "seekr-10": ("seekr", 58.27, 4000),
    "joint": ("joint", 59.38, 0),
}


@pytest.fixture
def trial(make_record: RecordFactory) -> Callable[..., TrialRecord]:
    """`trial(key, op, samples, **fields)`: a finished trial with that OP and that many stored samples."""

    def build(key: str, op: float, samples: int, **fields: Any) -> TrialRecord:
        replay = make_record.replay((samples, 0, 0), presentations=2 * samples)
        return make_record(key, matrix=make_record.matrix(op), replay=replay, **fields)

    return build


def ranked(records: list[TrialRecord], by: str = "op_per_replayed_sample") -> Ranking:
    return rank(trials_table(records), by)


def keys(ranking: Ranking) -> list[str]:
    return [row["trial"] for row in ranking.rows]


def by_key(ranking: Ranking) -> dict[str, dict[str, Any]]:
    return {row["trial"]: row for row in (*ranking.rows, *ranking.bounds)}


def test_the_published_table_is_ranked_as_computed_by_hand(trial: Callable[..., TrialRecord]) -> None:
    records = [
        trial(key, op, samples, method=method, role="bound" if method in {"seqft", "joint"} else "trial")
        for key, (method, op, samples) in PUBLISHED.items()
    ]
    ranking = ranked(records)
    assert keys(ranking) == ["seekr-1", "derpp-1", "replay-1", "seekr-10", "replay-10", "derpp-10"]
    assert [row["trial"] for row in ranking.bounds] == ["joint", "seqft"]
    rows = by_key(ranking)
    assert rows["seekr-1"]["op_per_replayed_sample"] == pytest.approx(0.137475)
    assert rows["seekr-10"]["op_per_replayed_sample"] == pytest.approx(0.0145675)
    assert rows["seekr-1"]["normalised_gain"] == pytest.approx(7.36 / 11.75)
    assert rows["seekr-10"]["normalised_gain"] == pytest.approx(10.64 / 11.75)
    assert rows["replay-10"]["normalised_gain"] == pytest.approx(8.04 / 11.75)
    assert rows["seekr-1"]["gain_per_replayed_sample"] == pytest.approx(0.0184)
    assert rows["replay-1"]["gain_per_replayed_sample"] == pytest.approx(0.0021)
    assert [key for key, row in rows.items() if row["pareto"]] == ["seekr-1", "seekr-10"]
    assert all(row["beats_seqft"] for row in ranking.rows)

    study = study_measures(ranking, (100, 10_000))
    assert study.samples_to_target == {0.60: 400, 0.75: 4000, 0.90: 4000}
    by_hand = (54.99 - 47.63) * math.log10(4000 / 400) + (58.27 - 47.63) * math.log10(10_000 / 4000)
    assert study.hypervolume == pytest.approx(by_hand)


def test_the_literal_quotient_crowns_the_smallest_memory_and_the_gain_does_not(
    trial: Callable[..., TrialRecord],
) -> None:
    records = [
        trial("none-learned", 10.0, 1),
        trial("useful", 60.0, 10),
        trial("s", 20.0, 0, method="seqft", role="bound"),
        trial("j", 80.0, 0, method="joint", role="bound"),
    ]
    assert keys(ranked(records)) == ["none-learned", "useful"]
    assert keys(ranked(records, "gain_per_replayed_sample")) == ["useful", "none-learned"]
    rows = by_key(ranked(records))
    assert rows["none-learned"]["beats_seqft"] is False and rows["useful"]["beats_seqft"] is True
    assert rows["none-learned"]["normalised_gain"] == pytest.approx(-10 / 60)


def test_trials_that_did_not_finish_come_last_without_rank(trial: Callable[..., TrialRecord]) -> None:
    records = [
        trial("failed", 99.0, 1, status="failed", error="out of memory"),
        trial("pruned", 99.0, 1, status="pruned"),
        trial("running", 99.0, 1, status="running"),
        trial("done", 10.0, 10),
    ]
    ranking = ranked(records)
    assert keys(ranking) == ["done", "running", "pruned", "failed"]
    assert [row["rank"] for row in ranking.rows] == [1, None, None, None]
    assert [row["pareto"] for row in ranking.rows] == [True, None, None, None]


def test_a_trial_without_replay_has_no_quotient_and_ranks_after_those_with_one(
    trial: Callable[..., TrialRecord],
) -> None:
    ranking = ranked([trial("none", 90.0, 0, method="seqft"), trial("some", 1.0, 1000)])
    assert keys(ranking) == ["some", "none"]
    assert [row["rank"] for row in ranking.rows] == [1, 2]
    assert by_key(ranking)["none"]["gain_per_replayed_sample"] is None


def test_ties_go_to_the_higher_score_and_then_to_the_smaller_key(trial: Callable[..., TrialRecord]) -> None:
    records = [trial("c", 10.0, 2), trial("b", 20.0, 4), trial("a", 10.0, 2)]
    assert keys(ranked(records)) == keys(ranked(records[::-1])) == ["b", "a", "c"]


def test_costs_are_better_when_lower_and_scores_when_higher(trial: Callable[..., TrialRecord]) -> None:
    records = [trial("cheap", 10.0, 2, wall_seconds=1.0), trial("good", 20.0, 40, wall_seconds=9.0)]
    for column in ("distinct_replayed_samples", "replay_presentations", "memory_bytes", "wall_seconds"):
        assert keys(ranked(records, column)) == ["cheap", "good"], column
    assert keys(ranked(records, "op")) == ["good", "cheap"]


def test_any_number_of_the_config_may_order_the_trials(
    trial: Callable[..., TrialRecord], make_record: RecordFactory
) -> None:
    records = [trial(str(p), 10.0, 2, config=make_record.config(method={"replay_percent": p})) for p in (5, 1, 3)]
    assert keys(ranked(records, "config.method.replay_percent")) == ["1", "3", "5"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("op_per_sample", "trials have no column 'op_per_sample'; did you mean 'op_per_replayed_sample'?"),
        ("gain", "trials have no column 'gain'; give one of tasks_done, op, bwt"),
        ("status", "trials cannot be ranked by 'status', which is not a number; give one of"),
        ("pareto", "trials have no column 'pareto'; "),
    ],
)
def test_a_column_that_cannot_rank_is_refused_with_a_way_out(column: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        rank(trials_table([]), column)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bounds_count_only_where_seed_tasks_and_split_agree(
    trial: Callable[..., TrialRecord], make_record: RecordFactory
) -> None:
    def bound(key: str, method: str, op: float, seed: int, **fields: Any) -> TrialRecord:
        return trial(key, op, 0, method=method, role="bound", config=make_record.config(seed=seed), **fields)

    records = [
        trial("seed-0", 60.0, 10, config=make_record.config(seed=0)),
        trial("seed-1", 60.0, 10, config=make_record.config(seed=1)),
        trial("seed-2", 60.0, 10, config=make_record.config(seed=2)),
        trial("test", 60.0, 10, config=make_record.config(seed=0), split="test"),
        bound("s0", "seqft", 40.0, 0),
        bound("j0", "joint", 80.0, 0),
        bound("s1", "seqft", 50.0, 1),
        bound("j1", "joint", 99.0, 1, status="failed"),
    ]
    rows = by_key(ranked(records))
    assert rows["seed-0"]["normalised_gain"] == pytest.approx(0.5)
    assert rows["seed-0"]["gain_per_replayed_sample"] == pytest.approx(2.0)
    assert rows["seed-1"]["normalised_gain"] is None
    assert rows["seed-1"]["gain_per_replayed_sample"] == pytest.approx(1.0)
    for key in ("seed-2", "test"):
        assert [rows[key][name] for name in ("normalised_gain", "beats_seqft")] == [None, None]
    assert rows["s0"]["normalised_gain"] == 0 and rows["j0"]["normalised_gain"] == 1


def test_joint_training_is_no_competitor_on_the_front(trial: Callable[..., TrialRecord]) -> None:
    rows = by_key(ranked([trial("joint", 90.0, 0, method="joint", role="run"), trial("seekr", 60.0, 10, role="run")]))
    assert rows["joint"]["pareto"] is None and rows["seekr"]["pareto"] is True


def test_the_front_keeps_equals_and_drops_what_is_dominated() -> None:
    outcomes = [Outcome(50, 10), Outcome(50, 10), Outcome(50, 11), Outcome(49, 10), Outcome(60, 20), Outcome(10, 0)]
    assert pareto_front(outcomes) == [True, True, False, False, True, True]


def test_a_hypervolume_by_hand() -> None:
    outcomes = [Outcome(50.0, 10), Outcome(70.0, 100), Outcome(60.0, 100), Outcome(99.0, 5000)]
    assert hypervolume(outcomes, (1, 1000), 40.0) == pytest.approx(0 * 1 + 10 * 1 + 30 * 1)
    assert hypervolume([Outcome(50.0, 0)], (10, 1000), 40.0) == pytest.approx(10 * 2)
    assert hypervolume([Outcome(30.0, 10)], (1, 1000), 40.0) == 0
    assert hypervolume([], (1, 1000), 40.0) == 0
    with pytest.raises(StudyError, match=r"sample range \[0, 10\] must have 0 < lowest < highest"):
        hypervolume(outcomes, (0, 10), 40.0)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 100), st.integers(10, 10_000)), min_size=1, max_size=8))
def test_the_hypervolume_agrees_with_optuna(points: list[tuple[float, int]]) -> None:
    losses = np.array([[-op, math.log10(samples)] for op, samples in points])
    ours = hypervolume([Outcome(op, samples) for op, samples in points], (10, 10_000), 20.0)
    inside = losses[(losses < [-20.0, 4.0]).all(axis=1)]
    expected = compute_hypervolume(inside, np.array([-20.0, 4.0])) if len(inside) else 0.0
    assert ours == pytest.approx(expected, abs=1e-9)


def test_samples_to_target_is_the_cheapest_that_reaches_it() -> None:
    gains = [(0.5, 1), (0.8, 30), (0.76, 20), (0.95, 500)]
    assert [samples_to_target(gains, share) for share in (0.5, 0.75, 0.9, 0.99)] == [1, 20, 500, None]


def test_an_empty_study_has_no_numbers() -> None:
    ranking = rank(trials_table([]))
    assert ranking.rows == () and ranking.bounds == ()
    study = study_measures(ranking, (10, 100))
    assert study.hypervolume is None and set(study.samples_to_target.values()) == {None}


def test_every_number_has_a_formula() -> None:
    compared = set(COMPARED) - {"rank"}
    numeric = {f.name for f in trials_table([]).schema if f.type in (pa.float64(), pa.int64())}
    plain = {"tasks_done", "optuna_number", "num_layers", "num_heads"}
    columns = {name for name in numeric if not name.startswith("config.")} - plain
    assert columns | compared <= set(FORMULAS)
