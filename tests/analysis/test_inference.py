"""Intervals and tests: against cases by hand, scipy, and how often they are right in simulated studies."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from seekr_tune.analysis.inference import (
    Setting,
    fieller,
    holm,
    infer,
    probability_of_best,
    share_of_best,
    sign_flip,
    student,
    verdicts,
)


def crossed(table: list[list[float]]) -> dict[Setting, float]:
    """Values by order (rows) and seed (columns)."""
    return {Setting((f"{o}",), s, 0, "test"): x for o, row in enumerate(table) for s, x in enumerate(row)}


def paired(values: list[float]) -> dict[Setting, float]:
    """Each with an order, a seed and a memory of its own."""
    return {Setting((f"{i}",), i, i, "test"): x for i, x in enumerate(values)}


def test_crossed_settings_are_judged_by_their_levels() -> None:
    table = crossed([[0, 4, 8], [2, 6, 10]])
    these, new = infer(table, "these_orders"), infer(table, "new_orders")
    assert (these.mean, these.low, these.high, these.levels) == pytest.approx((5, -4.94, 14.94, 3), abs=0.01)
    assert (new.low, new.high, new.levels) == pytest.approx((5 - 12.706, 5 + 12.706, 2), abs=0.01)


def test_settings_of_their_own_are_judged_one_by_one() -> None:
    found = infer(paired([3, 2.5, 3.5, 3.2, 2.8, 3]), "new_orders")
    assert (found.mean, found.low, found.high) == pytest.approx((3.0, 2.64, 3.36), abs=0.005)
    assert found.p_flip == 2 / 2**6


@pytest.mark.parametrize(
    ("settings", "target", "said"),
    [
        (paired([1, 2, 3, 4]), "new_orders", "too few to tell: 4 settings, and 5 are needed"),
        (crossed([[1], [2], [3], [4], [5]]), "these_orders", "one seed only"),
        (crossed([[1], [2], [3], [4], [5]]), "new_orders", "one seed only"),
        (crossed([[1, 2, 3, 4, 5]]), "new_orders", "one order only"),
    ],
)
def test_what_cannot_be_told_is_said(settings: dict[Setting, float], target: Any, said: str) -> None:
    found = infer(settings, target)
    assert found.mean is not None and found.low is None and said in (found.why or "")


def test_signs_and_students_t_stand_beside_each_other() -> None:
    case = np.array([1.5, 6.4, 2.7, 7.5, -0.9, 4.4])
    assert (sign_flip(case), student(case)) == pytest.approx((0.0625, 0.0374), abs=5e-5)
    flips = np.array(list(itertools.product([1, -1], repeat=6))) @ case
    assert sign_flip(case) == (abs(flips) >= case.sum() - 1e-9).mean()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8]) and holm([]) == []


def test_the_words_follow_the_rules() -> None:
    clear = infer(paired([3, 2.5, 3.5, 3.2, 2.8, 3, 3.1, 2.9]), "new_orders")
    hint = infer(paired([1.5, 6.4, 2.7, 7.5, -0.9, 4.4]), "new_orders")
    noise = infer(paired([1, -1, 2, -2, 1.5]), "new_orders")
    few = infer(paired([5, 5]), "new_orders")
    assert verdicts([clear]) == ["shown"]
    assert verdicts([clear, hint, noise, few]) == ["shown", "suggestive", "not decided", "not decided"]
    assert verdicts([clear] * 9) == ["suggestive"] * 9  # 9 x 2 / 2^8 is more than 0.05


def test_fiellers_interval_is_that_of_the_difference_that_it_leaves() -> None:
    """Where numerator - r denominator has 0 at the very end of its interval, r is an end."""
    above, below = np.array([16.0, 2.0, 10.0, 11.0, 9.0]), np.array([20.0, 2.0, 21.0, 20.0, 19.0])
    ends = fieller(above, below)
    assert ends is not None and ends[0] < above.sum() / below.sum() < ends[1]
    assert [student(above - end * below) for end in ends] == pytest.approx([0.05, 0.05])
    assert fieller(above, np.array([80.0, 2.0, 1.0, 0.0, -9.0])) is None


def test_ten_equal_configurations_are_not_told_apart() -> None:
    rng = np.random.default_rng(3)
    first = [probability_of_best(rng.normal(50, 5, (10, n))).max() for n in (2, 5) for _ in range(100)]
    assert np.mean(first) <= 0.5  # the share of resamples is 0.72


def test_the_probability_of_being_best_of_two_is_that_of_their_difference() -> None:
    """One-sided p of Student's t of the difference, as the posterior under Jeffreys' prior is."""
    values = np.array([[50.0, 60.0, 10.0, 40.0, 44.0, 47.0], [45.0, 52.0, 13.0, 41.0, 40.0, 49.0]])
    expected = 1 - student(values[0] - values[1]) / 2
    assert probability_of_best(values)[0] == pytest.approx(expected, abs=0.015)


def test_the_share_of_the_best_is_shared_by_ties() -> None:
    means = np.array([[1.0, 2.0, 3.0, 5.0], [1.0, 3.0, 2.0, 5.0], [0.0, 0.0, 0.0, 5.0]])
    assert share_of_best(means).tolist() == pytest.approx([(0.5 + 1 + 1 / 3) / 4, (0.5 + 1 + 1 / 3) / 4, 1 / 12])


@pytest.mark.parametrize(
    ("orders", "seeds", "target"), [(2, 3, "these_orders"), (2, 5, "new_orders"), (3, 3, "new_orders")]
)
def test_intervals_cover_as_often_as_they_say(orders: int, seeds: int, target: Any) -> None:
    """A quarter of the variance is the order's, a quarter the seed's, half the run's; 600 studies each."""
    rng, covered = np.random.default_rng(7), []
    for _ in range(600):
        order, seed = rng.normal(0, 0.5, orders), rng.normal(0, 0.5, seeds)
        table = order[:, None] + seed + rng.normal(0, 0.5**0.5, (orders, seeds))
        found = infer(crossed(table.tolist()), target)
        truth = order.mean() if target == "these_orders" else 0.0
        assert found.low is not None and found.high is not None
        covered.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(covered)
