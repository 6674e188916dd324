"""Maps of heads: the table's rows in their places, and what compares tasks with each other."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jaccard
from scipy.stats import rankdata
from synthetic import TASKS, RecordFactory

from seekr_tune.analysis.head_maps import head_maps, importance_drift, selection_overlap, task_importance
from seekr_tune.analysis.ledger import read_table, write_ledger
from seekr_tune.errors import StudyError


def table(rows: list[tuple[str, int, int, int, float, bool]]) -> pa.Table:
    """Rows of (trial, task index, layer, head, importance, selected)."""
    names = ("trial", "task_index", "layer", "head", "importance", "selected")
    columns: dict[str, list[Any]] = {
        name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
    tasks = [TASKS[index] for index in columns["task_index"]]
    halves = [value / 2 for value in columns["importance"]]
    return pa.table({**columns, "task": tasks, "sensitivity": halves, "forgettability": [2.0] * len(rows)})


def test_every_head_is_in_its_place_whatever_the_order_of_the_rows() -> None:
    rows = [
        ("b", 0, 0, 0, 99.0, True),
        *[("a", task, layer, head, 100.0 * task + 10 * layer + head, head == task)
          for task in (1, 0) for head in (2, 0, 1) for layer in (1, 0)],
    ]  # fmt: skip
    maps = head_maps(table(rows), "a")
    assert maps.tasks == ("flags", "rivers") and maps.importance.shape == (2, 2, 3)
    assert maps.importance[1].tolist() == [[100, 101, 102], [110, 111, 112]]
    assert maps.sensitivity[0].tolist() == [[0, 0.5, 1], [5, 5.5, 6]] and (maps.forgettability == 2).all()
    assert maps.selected[:, 0].tolist() == [[True, False, False], [False, True, False]]


def test_a_head_that_was_not_measured_is_nan_and_not_selected() -> None:
    maps = head_maps(table([("a", 0, 0, 0, 1.0, True), ("a", 0, 1, 1, 2.0, True)]), "a")
    assert np.isnan(maps.importance[0]).tolist() == [[False, True], [True, False]]
    assert maps.selected[0].tolist() == [[True, False], [False, True]]


def test_the_maps_of_a_ledger_are_what_the_record_holds(tmp_path: Any, make_record: RecordFactory) -> None:
    write_ledger(tmp_path, [make_record("one", heads=make_record.heads(3, 4)), make_record("two")], {})
    maps = head_maps(read_table(tmp_path, "heads"), "one")
    assert maps.tasks == TASKS and maps.importance.shape == (3, 3, 4)
    assert maps.importance[:, 0, 0].tolist() == [0.0625, 0.125, 0.1875] and maps.selected.sum() == 9


def test_a_run_without_heads_is_refused_in_one_line() -> None:
    with pytest.raises(StudyError, match=re.escape("c has no heads: its method selects none")):
        head_maps(table([("a", 0, 0, 0, 1.0, True)]), "c")


def test_overlap_by_hand() -> None:
    selected = np.array([[[1, 1, 0, 0]], [[0, 1, 1, 1]], [[0, 0, 0, 0]]], dtype=bool)
    overlap = selection_overlap(selected)
    assert overlap[:2, :2].tolist() == [[1.0, 0.25], [0.25, 1.0]]  # one head in both, four in either
    assert overlap[0, 2] == 0 and np.isnan(overlap[2, 2])


@settings(deadline=None, max_examples=30)
@given(arrays(bool, (4, 3, 5)))
def test_overlap_agrees_with_scipy(selected: Any) -> None:
    overlap, flat = selection_overlap(selected), selected.reshape(4, -1)
    for one in range(4):
        for other in range(4):
            if (flat[one] | flat[other]).any():
                assert overlap[one, other] == pytest.approx(1 - jaccard(flat[one], flat[other]))


def test_drift_by_hand() -> None:
    importance = np.array([[[1.0, 2.0], [3.0, 4.0]], [[10.0, 20.0], [30.0, 40.0]], [[9.0, 8.0], [7.0, 6.0]]])
    assert importance_drift(importance).tolist() == pytest.approx([1.0, -1.0])
    swapped = np.array([[[1.0, 2.0, 3.0]], [[2.0, 1.0, 3.0]]])
    assert importance_drift(swapped).tolist() == pytest.approx([1 - 6 * 2 / (3 * 8)])  # 1 - 6 sum d^2 / (n (n^2 - 1))
    assert np.isnan(importance_drift(np.zeros((2, 1, 3)))).all() and len(importance_drift(swapped[:1])) == 0


@settings(deadline=None, max_examples=30)
@given(arrays(float, (2, 2, 4), elements=st.integers(0, 5).map(float)))
def test_drift_is_the_correlation_of_ranks(importance: Any) -> None:
    ranks = [rankdata(one) for one in importance.reshape(2, -1)]
    if all(np.ptp(rank) > 0 for rank in ranks):
        assert importance_drift(importance)[0] == pytest.approx(np.corrcoef(ranks)[0, 1])


def test_the_importance_of_each_task_adds_up_to_the_running_sum() -> None:
    importance = np.array([[[1.0, 0.5]], [[3.0, 0.5]], [[3.5, 2.5]]])
    assert task_importance(importance).tolist() == [[[1.0, 0.5]], [[2.0, 0.0]], [[0.5, 2.0]]]
    assert np.cumsum(task_importance(importance), axis=0).tolist() == importance.tolist()
