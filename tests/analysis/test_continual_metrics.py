"""Continual-learning metrics on hand-made matrices and against independent formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from seekr_tune.analysis import continual_metrics as metrics

# after training row; evaluated column. Every metric below has a different value on it.
SCORES = np.array([[80.0, 10.0, 30.0], [60.0, 90.0, 20.0], [85.0, 50.0, 70.0]])
INITIAL = np.array([5.0, 4.0, 8.0])
NAN = math.nan

percent_matrices = st.integers(1, 6).flatmap(
    lambda size: arrays.arrays(np.float64, (size, size), elements=st.floats(0, 100, allow_nan=False))
)


def test_metrics_of_a_hand_made_matrix() -> None:
    assert metrics.overall_performance(SCORES) == pytest.approx((85 + 50 + 70) / 3)
    assert metrics.backward_transfer(SCORES) == pytest.approx(((85 - 80) + (50 - 90)) / 2)
    assert metrics.backward_transfer_official(SCORES) == pytest.approx(((85 - 80) + (50 - 90)) / 3)
    assert metrics.forward_transfer(SCORES, INITIAL) == pytest.approx(((10 - 4) + (20 - 8)) / 2)
    assert metrics.forgetting(SCORES) == pytest.approx(((80 - 85) + (90 - 50)) / 2)


def test_the_last_row_alone_gives_op_and_nothing_else() -> None:
    joint = np.full((3, 3), NAN)
    joint[-1] = [1.0, 2.0, 6.0]
    assert metrics.overall_performance(joint) == pytest.approx(3.0)
    assert metrics.backward_transfer(joint) is None
    assert metrics.backward_transfer_official(joint) is None
    assert metrics.forward_transfer(joint, INITIAL) is None
    assert metrics.forgetting(joint) is None


def test_diagonal_and_last_row_give_op_and_bwt_only() -> None:
    scores = np.where(np.eye(3, dtype=bool), SCORES, NAN)
    scores[-1] = SCORES[-1]
    assert metrics.overall_performance(scores) == metrics.overall_performance(SCORES)
    assert metrics.backward_transfer(scores) == metrics.backward_transfer(SCORES)
    assert metrics.forward_transfer(scores, INITIAL) is None
    assert metrics.forgetting(np.where(np.tri(3, dtype=bool), SCORES, NAN)) == metrics.forgetting(SCORES)


def test_forward_transfer_needs_the_scores_of_the_base_model() -> None:
    assert metrics.forward_transfer(SCORES, np.array([5.0, NAN, 8.0])) is None
    assert metrics.forward_transfer(SCORES, np.array([NAN, 4.0, 8.0])) is not None  # the first task has no say


def test_a_single_task_has_op_and_the_official_bwt_only() -> None:
    one = np.array([[62.5]])
    assert metrics.overall_performance(one) == 62.5
    assert metrics.backward_transfer_official(one) == 0.0
    assert metrics.backward_transfer(one) is None
    assert metrics.forward_transfer(one, np.array([1.0])) is None
    assert metrics.forgetting(one) is None


def test_an_unfinished_stream_has_no_metric() -> None:
    unfinished = SCORES.copy()
    unfinished[-1] = NAN
    assert metrics.overall_performance(unfinished) is None
    assert metrics.backward_transfer(unfinished) is None


@given(percent_matrices)
def test_official_bwt_is_the_usual_one_scaled(scores: np.ndarray) -> None:
    num_tasks, official = len(scores), metrics.backward_transfer_official(scores)
    usual = metrics.backward_transfer(scores)
    assert official is not None
    assert official == pytest.approx(0.0 if usual is None else usual * (num_tasks - 1) / num_tasks)


@given(percent_matrices)
def test_forgetting_is_never_below_the_loss_since_learning(scores: np.ndarray) -> None:
    transfer, lost = metrics.backward_transfer(scores), metrics.forgetting(scores)
    if transfer is not None:
        assert lost is not None
        assert lost >= -transfer - 1e-9


@given(percent_matrices, st.floats(0, 100))
def test_forward_transfer_moves_against_the_initial_scores(scores: np.ndarray, shift: float) -> None:
    base = metrics.forward_transfer(scores, np.zeros(len(scores)))
    moved = metrics.forward_transfer(scores, np.full(len(scores), shift))
    if base is None:
        assert moved is None
    else:
        assert moved == pytest.approx(base - shift)


def test_normalised_gain_is_the_share_of_the_gap() -> None:
    assert metrics.normalised_gain(60.0, 20.0, 100.0) == pytest.approx(0.5)
    assert metrics.normalised_gain(20.0, 20.0, 100.0) == 0.0
    assert metrics.normalised_gain(10.0, 20.0, 100.0) == pytest.approx(-0.125)


@pytest.mark.parametrize("values", [(None, 20.0, 100.0), (60.0, None, 100.0), (60.0, 20.0, None)])
def test_normalised_gain_needs_both_bounds(values: tuple[float | None, float | None, float | None]) -> None:
    assert metrics.normalised_gain(*values) is None


def test_normalised_gain_needs_a_gap() -> None:
    assert metrics.normalised_gain(60.0, 50.0, 50.0) is None
    assert metrics.normalised_gain(60.0, 50.0, 40.0) is None


def test_forgetting_looks_at_what_was_learned_only() -> None:
    """Chaudhry's, which also counts scores of a task from before it was learned, would be 25."""
    assert metrics.forgetting(np.array([[90.0, 60.0, 10.0], [80.0, 40.0, 70.0], [70.0, 30.0, 95.0]])) == 15.0
