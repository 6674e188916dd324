"""What a handful of settings can say: intervals and tests that keep what they promise, and the words for them.

A *setting* is what a run has by chance: its order, seed and memory draw. Where studies cross them (each order with each
seed), their runs are no independent draws: the runs of one seed share what is of that seed. So a mean is judged by the
means of the levels of each factor that it is meant to hold beyond, and the widest Student interval is taken
(b levels: b - 1 degrees of freedom). Where each setting has an order and a seed of its own, they are the levels.

`these_orders` speaks of new seeds and memory draws in the orders that were run, `new_orders` of new orders, too, and so
does `pairs`, whose orders and seeds were drawn run by run (`study.replicates.pairs`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Target = Literal["these_orders", "new_orders", "pairs"]
Verdict = Literal["shown", "suggestive", "not decided"]

LEVEL = 0.95
"""Coverage of every interval."""
FEWEST = 5
"""Settings below which no interval is given: it would be too wide to be of use, or too narrow to be true."""
SUGGESTIVE = 0.10
"""A difference that is not shown is suggestive where neither test, by itself, has a larger p."""
_EXACT = 12
"""Up to so many levels all signs are flipped; of more, `_DRAWS` of them."""
_DRAWS = 9999
_SEED = 0  # the same ledger always gives the same numbers


class Setting(NamedTuple):
    """What a run has by chance, and the split it was scored on; runs are paired where all of it agrees."""

    tasks: tuple[str, ...]
    seed: int
    memory_draw: int
    split: str | None


@dataclass(frozen=True)
class Inference:
    """A mean over settings, and what they say of it.

    Attributes:
        mean: null where there are no settings.
        low, high: its 95 % interval; null where the settings are too few.
        n: settings.
        levels: independent levels that the interval and the tests rest on; 0 without an interval.
        p_flip, p_t: two-sided p of no difference from 0: by flipping signs, exactly, and by Student's t.
        why: why there is no interval; null where there is one.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    levels: int = 0
    p_flip: float | None = None
    p_t: float | None = None
    why: str | None = None


def levels_of(settings: Sequence[Setting], target: Target) -> list[list[list[int]]] | str:
    """The runs of each level of each factor that a mean is to hold beyond, or why that cannot be told.

    Args:
        settings: of the runs, all different.
        target: what it is to hold beyond.
    """
    if len(settings) < FEWEST:
        return f"too few to tell: {len(settings)} settings, and {FEWEST} are needed"
    if target == "pairs":
        return [[[place] for place in range(len(settings))]]
    factors = {"order": [one.tasks for one in settings], "seed": [one.seed for one in settings]}
    named: dict[str, list[object]] = {**factors, "memory draw": [one.memory_draw for one in settings]}  # type: ignore[dict-item]
    varying = {name: own for name, own in named.items() if len(set(own)) > 1}
    if target == "new_orders" and "order" not in varying:
        return "one order only says nothing of new orders"
    if not varying.keys() & {"seed", "memory draw"}:
        return "one seed only: what another would change is not known"
    if all(len(set(own)) == len(settings) for own in varying.values()):
        return [[[place] for place in range(len(settings))]]
    wanted = {name: own for name, own in varying.items() if name != "order" or target == "new_orders"}
    return [
        [[i for i, own in enumerate(levels) if own == level] for level in dict.fromkeys(levels)]
        for levels in wanted.values()
    ]


def infer(values: Mapping[Setting, float], target: Target) -> Inference:
    """What settings say of the mean of a number.

    Args:
        values: one for each setting.
        target: what the mean is to hold beyond.
    """
    n = len(values)
    if not n:
        return Inference(None, why="no setting in common")
    mean = fmean(values.values())
    factors = levels_of(list(values), target)
    if isinstance(factors, str):
        return Inference(mean, n=n, why=factors)
    numbers = np.array(list(values.values()))
    widest = max((_level_means(numbers, levels) for levels in factors), key=_reach)
    reach = _reach(widest)
    return Inference(mean, mean - reach, mean + reach, n, len(widest), sign_flip(widest), student(widest))


def ratio(
    gains: Mapping[Setting, float], gaps: Mapping[Setting, float], target: Target
) -> tuple[float, float] | str | None:
    """Fieller's 95 % interval of sum(gains) / sum(gaps), both of the same settings.

    Returns:
        None where the settings are too few for one, and the reason where the gap's own interval has 0 in it.
    """
    settings = list(gains)
    factors = levels_of(settings, target)
    if isinstance(factors, str):
        return None
    above, below = (np.array([own[setting] for setting in settings]) for own in (gains, gaps))
    found: list[tuple[float, float]] = []
    for levels in factors:
        ends = fieller(_level_means(above, levels), _level_means(below, levels))
        if ends is None:
            return "the 95 % interval of the gap between joint training and no replay has 0 in it"
        found.append(ends)
    return max(found, key=lambda ends: ends[1] - ends[0])


def fieller(above: Values, below: Values) -> tuple[float, float] | None:
    """The 95 % interval of mean(above) / mean(below), pair by pair; None where that of mean(below) has 0 in it.

    Source: Fieller 1954.
    """
    n, mean = len(above), float(below.mean())
    covariance = np.cov(above, below) / n
    limit = _quantile(n - 1)
    g = limit**2 * covariance[1, 1] / mean**2 if mean else math.inf
    if g >= 1:
        return None
    share = float(above.mean()) / mean
    tilt = covariance[0, 1] / covariance[1, 1] if covariance[1, 1] else 0.0
    spread = covariance[0, 0] - 2 * share * covariance[0, 1] + share**2 * covariance[1, 1]
    spread -= g * (covariance[0, 0] - tilt * covariance[0, 1])
    reach = limit / abs(mean) * math.sqrt(max(0.0, spread))
    return (share - g * tilt - reach) / (1 - g), (share - g * tilt + reach) / (1 - g)


def student(values: Values) -> float:
    """Two-sided p of Student's t that the mean is 0; 1 where all are 0, 0 where all are one other number."""
    if not values.std():
        return 0.0 if values.any() else 1.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(values, 0.0).pvalue)


def sign_flip(values: Values) -> float:
    """Two-sided p that the mean is 0, by flipping the signs of all values; exact up to 12 of them.

    It cannot be below 2 / 2^n.
    """
    from scipy.stats import permutation_test

    resamples = math.inf if len(values) <= _EXACT else _DRAWS
    rng = np.random.default_rng(_SEED)
    test = permutation_test(
        (values,), np.mean, permutation_type="samples", vectorized=True, n_resamples=resamples, rng=rng
    )
    return float(test.pvalue)


def holm(pvalues: Sequence[float]) -> list[float]:
    """The same p, corrected for how many there are. Source: Holm 1979."""
    order, worst = sorted(range(len(pvalues)), key=lambda place: pvalues[place]), 0.0
    corrected = [0.0] * len(pvalues)
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(pvalues) - rank) * pvalues[place]))
        corrected[place] = worst
    return corrected


def verdicts(found: Sequence[Inference]) -> list[Verdict]:
    """What may be said of each of the differences that are looked at together.

    *Shown*: both tests have a p of at most 0.05, corrected by Holm over all of them. *Suggestive*: it is not shown,
    and both have one of at most 0.10 by itself. *Not decided*: neither, or too few settings.
    """
    tested = [one for one in found if one.p_flip is not None and one.p_t is not None]
    corrected = {
        id(one): max(pair)
        for one, *pair in zip(
            tested, holm([one.p_flip or 0.0 for one in tested]), holm([one.p_t or 0.0 for one in tested]), strict=True
        )
    }

    def verdict(one: Inference) -> Verdict:
        if one.p_flip is None or one.p_t is None:
            return "not decided"
        if corrected[id(one)] <= 1 - LEVEL:
            return "shown"
        return "suggestive" if max(one.p_flip, one.p_t) <= SUGGESTIVE else "not decided"

    return [verdict(one) for one in found]


def probability_of_best(values: Values) -> Values:
    """How probable it is that each of k configurations has the highest mean, given n values of each in common settings.

    The posterior of their means under one normal spread for all (Jeffreys' prior): what is left of the values when the
    means of settings and of configurations are taken away, pooled. Equals share.

    Args:
        values: `[k, n]`, k >= 2, n >= 2.
    """
    k, n = values.shape
    means = values.mean(axis=1)
    rest = values - means[:, None] - values.mean(axis=0) + values.mean()
    freedom = (k - 1) * (n - 1)
    rng = np.random.default_rng(_SEED)
    spread = np.sqrt((rest**2).sum() / rng.chisquare(freedom, _DRAWS) / n)
    return share_of_best(means[:, None] + rng.standard_normal((k, _DRAWS)) * spread)


def share_of_best(means: Values) -> Values:
    """In which share of the columns each row is the highest; `[k, draws]` to `[k]`; several highest ones share it."""
    best = means.max(axis=0)
    is_best = means >= best - 1e-9 * np.maximum(1.0, abs(best))  # equal up to rounding is a tie
    return np.asarray((is_best / is_best.sum(axis=0)).mean(axis=1))


def level_matrix(values: Values, settings: Sequence[Setting], target: Target) -> Values | None:
    """Values of several configurations by the levels that tell least, `[k, levels]`; None where they are too few.

    Args:
        values: `[k, n]`, in the order of `settings`.
    """
    factors = levels_of(settings, target)
    if isinstance(factors, str):
        return None
    by_factor = [np.stack([_level_means(own, levels) for own in values]) for levels in factors]
    return max(by_factor, key=lambda own: float(np.mean([_reach(one) for one in own])))


def _level_means(values: Values, levels: Sequence[Sequence[int]]) -> Values:
    return np.array([values[list(own)].mean() for own in levels])


def _reach(values: Values) -> float:
    """Half of the Student interval of a mean."""
    return _quantile(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))


def _quantile(freedom: int) -> float:
    from scipy.special import stdtrit  # half a second of import, which studies of single runs need not wait for

    return float(stdtrit(freedom, 0.5 + LEVEL / 2))
