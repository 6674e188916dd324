"""The numbers that the paper printed for TRACE, as a ledger: what the analysis says of them, by hand.

Source: SEEKR, EMNLP 2024, LLaMA-2-7B-Chat. Eight tasks of 5000 training samples: 1 % keeps 50 a task, 400 in all; 10 %
keeps 4000. No spread was published, so orders are the only replicates.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from synthetic import NAN, RecordFactory

from seekr_tune.analysis.ledger import trials_table
from seekr_tune.analysis.measures import measure
from seekr_tune.analysis.ranking import Ranking, rank, study_measures
from seekr_tune.records import ReplayRow, TrialRecord, score_cells

PER_TASK, NUM_TASKS = 5000, 8
ONE, TEN = NUM_TASKS * PER_TASK // 100, NUM_TASKS * PER_TASK // 10  # 400 and 4000
SEQFT, JOINT = (47.63, 45.12), (59.38, 59.38)
PUBLISHED = {  # method, samples, OP and BWT of order 1, of order 2
    "seqft": ("seqft", 0, (47.63, -11.45), (45.12, -12.27)),
    "replay-1": ("replay", ONE, (48.47, -9.69), (47.04, -10.24)),
    "derpp-1": ("derpp", ONE, (49.22, -8.32), (46.59, -10.91)),
    "seekr-1": ("seekr", ONE, (54.99, -2.61), (54.69, -2.53)),
    "replay-10": ("replay", TEN, (55.67, -3.96), (53.39, -4.15)),
    "derpp-10": ("derpp", TEN, (55.01, -3.50), (54.05, -2.94)),
    "seekr-10": ("seekr", TEN, (58.27, 0.11), (57.27, -0.47)),
    "joint": ("joint", 0, (59.38, None), (59.38, None)),
}
ORDERS = (
    tuple(f"task{number}" for number in range(NUM_TASKS)),
    tuple(f"task{number}" for number in (5, 6, 1, 7, 0, 3, 2, 4)),
)


def matrix(op: float, bwt: float | None) -> list[list[float]]:
    """Eight tasks with that OP and BWT: all end at OP, and the first seven were learned at OP - BWT."""
    last = [op] * NUM_TASKS
    if bwt is None:
        return [[NAN] * NUM_TASKS for _ in range(NUM_TASKS - 1)] + [last]
    rows = [[NAN] * NUM_TASKS for _ in range(NUM_TASKS - 1)]
    for task in range(NUM_TASKS - 1):
        rows[task][task] = op - bwt
    return [*rows, last]


def record(make_record: RecordFactory, key: str, order: int, orders: int) -> TrialRecord:
    method, samples, *printed = PUBLISHED[key]
    op, bwt = printed[order]  # type: ignore[misc]
    tasks = ORDERS[order]
    listed = [list(ORDERS[number]) for number in range(orders)]
    stored = [
        ReplayRow(
            task=task,
            task_index=i,
            stored_samples=int(samples) // 8,
            presentations=0,
            replay_updates=0,
            tokens=0,
            bytes=0,
            first_presentations=int(samples) // 8,
        )
        for i, task in enumerate(tasks)
    ]
    return make_record(
        f"{key}-r{order}" if order else key,
        configuration=key,
        replicate=order,
        role="bound" if method in ("seqft", "joint") else "trial",
        method=method,
        tasks=tasks,
        tasks_done=NUM_TASKS,
        scores=score_cells(tasks, {"eval": np.array(matrix(op, bwt))}, {}),  # type: ignore[arg-type]
        replay=tuple(stored),
        timing=(),
        config={**make_record.config(study={"replicates": {"orders": listed}}), "stream": {"tasks": list(tasks)}},
    )


@pytest.fixture
def one_order(make_record: RecordFactory) -> list[TrialRecord]:
    return [record(make_record, key, 0, 1) for key in PUBLISHED]


@pytest.fixture
def two_orders(make_record: RecordFactory) -> list[TrialRecord]:
    return [record(make_record, key, order, 2) for key in PUBLISHED for order in range(2)]


def ranked(records: list[TrialRecord], by: str = "op_per_replayed_sample") -> Ranking:
    return rank(trials_table(records), by)


def keys(ranking: Ranking) -> list[str]:
    return [row["trial"] for row in ranking.rows]


def by_key(ranking: Ranking) -> dict[str, dict[str, Any]]:
    return {row["trial"]: row for row in (*ranking.rows, *ranking.bounds)}


def test_the_ledger_holds_what_was_printed(two_orders: list[TrialRecord]) -> None:
    for own in two_orders:
        printed = PUBLISHED[own.configuration or ""][2 + own.replicate]
        numbers = measure(own)
        assert (numbers.op, numbers.bwt) == pytest.approx(printed)
        assert numbers.distinct_replayed_samples == PUBLISHED[own.configuration or ""][1]
        if numbers.bwt is not None:
            assert numbers.bwt_official == pytest.approx(numbers.bwt * 7 / 8)


def test_order_1_alone(one_order: list[TrialRecord]) -> None:
    ranking = ranked(one_order)
    assert keys(ranking) == ["seekr-1", "derpp-1", "replay-1", "seekr-10", "replay-10", "derpp-10"]
    rows = by_key(ranking)
    # the literal quotient
    assert rows["seekr-1"]["op_per_replayed_sample"] == pytest.approx(54.99 / 400) == pytest.approx(0.137475)
    assert rows["seekr-10"]["op_per_replayed_sample"] == pytest.approx(58.27 / 4000) == pytest.approx(0.0145675)
    # the gap is 59.38 - 47.63 = 11.75
    for key, gain in {
        "replay-1": 0.84,
        "derpp-1": 1.59,
        "seekr-1": 7.36,
        "replay-10": 8.04,
        "derpp-10": 7.38,
        "seekr-10": 10.64,
    }.items():
        assert rows[key]["normalised_gain"] == pytest.approx(gain / 11.75)
        assert rows[key]["gain_per_replayed_sample"] == pytest.approx(gain / PUBLISHED[key][1])  # type: ignore[operator]
        assert rows[key]["beats_seqft"] is True and rows[key]["p_best"] is None and rows[key]["op_low"] is None
    assert rows["seekr-1"]["normalised_gain"] == pytest.approx(0.6264, abs=5e-5)
    assert rows["seekr-10"]["normalised_gain"] == pytest.approx(0.9055, abs=5e-5)


def test_the_front_has_seekr_alone_and_no_knee(one_order: list[TrialRecord]) -> None:
    rows = by_key(ranked(one_order))
    assert [key for key, row in rows.items() if row["pareto"]] == ["seekr-1", "seekr-10"]
    assert not any(row["knee"] for row in rows.values())  # two points


def test_study_numbers_of_order_1(one_order: list[TrialRecord]) -> None:
    study = study_measures(ranked(one_order), (100, 10_000))
    # 60 %: 54.68, which seekr reaches with 400; 75 %: 56.4425 and 90 %: 58.205, with 4000
    assert study.samples_to_target == {0.60: 400, 0.75: 4000, 0.90: 4000}
    # nothing from 100 to 400; 7.36 from 400 to 4000, one decade; 10.64 from 4000 to 10000
    assert study.hypervolume == pytest.approx(7.36 * 1 + 10.64 * math.log10(2.5))


def test_both_orders_are_compared_with_their_own_bounds(two_orders: list[TrialRecord]) -> None:
    rows = by_key(ranked(two_orders))
    # order 2: the gap is 59.38 - 45.12 = 14.26
    assert rows["seekr-1"]["normalised_gain"] == pytest.approx((7.36 + 9.57) / (11.75 + 14.26))
    assert rows["derpp-1"]["normalised_gain"] == pytest.approx((1.59 + 1.47) / (11.75 + 14.26))
    assert rows["seekr-10"]["gain_per_replayed_sample"] == pytest.approx((10.64 + 12.15) / 2 / 4000)
    assert rows["replay-10"]["op"] == pytest.approx((55.67 + 53.39) / 2)
    assert rows["seekr-1"]["bwt"] == pytest.approx((-2.61 - 2.53) / 2)
    assert rows["seekr-1"]["op_low"] is None  # of two orders nothing can be told


def test_who_is_first_over_both_orders(two_orders: list[TrialRecord]) -> None:
    ranking = ranked(two_orders, "op")
    # means: 57.77, 54.84, 54.53, 54.53, 47.905, 47.755; replay and derpp at 10 % tie to the last digit
    assert keys(ranking)[:2] == ["seekr-10", "seekr-1"] and set(keys(ranking)[2:4]) == {"replay-10", "derpp-10"}
    assert keys(ranking)[4:] == ["derpp-1", "replay-1"]


def test_study_numbers_of_both_orders(two_orders: list[TrialRecord]) -> None:
    study = study_measures(ranked(two_orders), (400, 4000))
    # gains: seekr 1 % 0.6509: nobody reaches 90 %
    assert study.samples_to_target == {0.60: 400, 0.75: 4000, 0.90: None}
    assert study.hypervolume == pytest.approx(54.84 - (47.63 + 45.12) / 2)  # one decade at the height of seekr 1 %
