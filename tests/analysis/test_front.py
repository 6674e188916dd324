"""The front and what it costs, on points made by hand and against Optuna."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from seekr_tune.analysis.front import Outcome, hypervolume, knee, pareto_front, samples_to_target
from seekr_tune.errors import StudyError

POINTS = st.lists(st.tuples(st.integers(0, 100), st.integers(1, 10_000)), min_size=1, max_size=9)


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


def test_the_knee_by_hand() -> None:
    """x: 0, 1/2, 1 (10, 100, 1000 samples); y: 0, 0.9, 1. Only the middle one is above the chord, by 0.4."""
    middle = Outcome(59.0, 100)
    assert knee([Outcome(50.0, 10), middle, Outcome(60.0, 1000)]) == middle
    assert knee([Outcome(50.0, 10), middle, Outcome(60.0, 1000), Outcome(58.0, 500), Outcome(1.0, 1)]) == Outcome(
        50.0, 10
    )


def test_a_knee_needs_three_points_of_the_front_and_one_above_the_chord() -> None:
    assert knee([]) is None and knee([Outcome(50.0, 10), Outcome(60.0, 100)]) is None
    assert knee([Outcome(50.0, 10), Outcome(60.0, 100), Outcome(40.0, 1000)]) is None  # the third is dominated
    assert knee([Outcome(50.0, 10), Outcome(55.0, 100), Outcome(60.0, 1000)]) is None  # on the chord
    assert knee([Outcome(50.0, 10), Outcome(51.0, 100), Outcome(60.0, 1000)]) is None  # below it
    assert knee([Outcome(50.0, 10)] * 3) is None  # one point, three times


def test_a_point_without_samples_has_no_logarithm_and_is_left_out() -> None:
    assert knee([Outcome(1.0, 0), Outcome(50.0, 10), Outcome(60.0, 100)]) is None
    with_three = [Outcome(1.0, 0), Outcome(50.0, 10), Outcome(59.0, 100), Outcome(60.0, 1000)]
    assert knee(with_three) == Outcome(59.0, 100)


def test_of_equally_high_knees_the_one_with_fewest_samples_is_taken() -> None:
    """x: 0, 1/4, 1/2, 1; y: 0, 0.5, 0.75, 1: both are 0.25 above the chord."""
    points = [Outcome(0.0, 1), Outcome(50.0, 10), Outcome(75.0, 100), Outcome(100.0, 10_000)]
    assert knee(points) == Outcome(50.0, 10)


@settings(deadline=None, max_examples=60)
@given(POINTS)
def test_the_knee_is_the_point_farthest_from_the_chord(points: list[tuple[int, int]]) -> None:
    """Distances to the line through the ends by the cross product, on the scaled front."""
    outcomes = [Outcome(op, samples) for op, samples in points]
    front = sorted(
        {one for one, on in zip(outcomes, pareto_front(outcomes), strict=True) if on}, key=lambda o: o.samples
    )
    found = knee(outcomes)
    if len(front) < 3:
        assert found is None
        return
    plane = np.array([[math.log10(one.samples), one.op] for one in front])
    plane = (plane - plane[0]) / (plane[-1] - plane[0])
    above = (plane[:, 1] - plane[:, 0]) / math.sqrt(2)
    if found is None:
        assert above.max() == pytest.approx(0, abs=1e-8)
    else:
        assert above[front.index(found)] == pytest.approx(above.max())


@settings(deadline=None, max_examples=40)
@given(POINTS)
def test_a_knee_does_not_depend_on_units(points: list[tuple[int, int]]) -> None:
    scaled = knee([Outcome(op / 100, samples * 8) for op, samples in points])
    found = knee([Outcome(op, samples) for op, samples in points])
    assert (scaled is None) == (found is None)
