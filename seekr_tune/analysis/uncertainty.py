"""How sure a mean over replicates is: paired bootstrap intervals, and the probability of being best.

A *setting* is what a run has by chance: its order, seed and memory draw. One resample draws as many settings as there
are, with replacement, and every configuration is read at the same drawn settings, so that what a hard order does to
all of them cancels in their differences. Configurations are compared at the settings that they share, and nowhere else.

The interval is the percentile one, widened for few settings (Hesterberg 2015, "What Teachers Should Know About the
Bootstrap", sec. 5.3): the tail 2.5 % becomes Phi(-sqrt(n / (n - 1)) t), where t is Student's 97.5 % quantile with n - 1
degrees of freedom. BCa corrects a skew that few settings do not show and stays as narrow as the plain percentiles. No
interval of resampled means can leave the range of its n values, so with few settings it covers the true mean less
often than 95 %: at most 1 - 2^(1 - n) of the time for a symmetric spread, which is 50 % for 2, 75 % for 3, 94 % for 5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seekr_tune.analysis.configurations import TrialRow, grouped
from seekr_tune.documents import parse_json

Values = NDArray[np.float64]

LEVEL = 0.95
"""Nominal coverage of every interval."""
NUM_RESAMPLES = 9999
WITH_INTERVAL = ("op", "normalised_gain", "gain_per_replayed_sample")
"""Columns whose means get `<column>_low` and `<column>_high`."""
INTERVALS = tuple(f"{column}_{end}" for column in WITH_INTERVAL for end in ("low", "high"))

_SEED = 0  # the same ledger always gives the same numbers


class Setting(NamedTuple):
    """What a run has by chance, and the split it was scored on; runs are paired where all of it agrees."""

    tasks: tuple[str, ...]
    seed: int
    memory_draw: int
    split: str | None


@dataclass(frozen=True)
class Resampled:
    """Bootstrap of the means of k configurations over n settings.

    Attributes:
        low, high: ends of the 95 % interval of each mean, `[k]`.
        means: the means in each resample, `[k, resamples]`; a column has the same drawn settings for all.
    """

    low: Values
    high: Values
    means: Values


@dataclass(frozen=True)
class Difference:
    """The mean difference of two configurations over the settings that they share.

    Attributes:
        mean: of a - b; null where they share no setting.
        low, high: its 95 % interval; null for fewer than two settings.
        n: settings that both have.
        p_better: share of the resamples in which a is the better one, ties counted half; null as the interval.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    p_better: float | None


@dataclass(frozen=True)
class StudyDifference:
    """One configuration in two studies: its key in each, and first minus second."""

    first: str
    second: str
    method: str
    difference: Difference


def setting_of(run: TrialRow) -> Setting:
    """The setting of a run of the `trials` table."""
    return Setting(tuple(run["tasks"]), int(run["config.seed"]), int(run["config.memory_draw"]), run["split"])


def values_by_setting(runs: Sequence[TrialRow], column: str) -> dict[Setting, float]:
    """A number of each finished run of one configuration, by setting in a fixed order; runs without it are left out."""
    values = {setting_of(run): run[column] for run in runs if run["status"] == "finished"}
    return {setting: float(values[setting]) for setting in sorted(values, key=repr) if values[setting] is not None}


def resample_means(values: Values) -> Resampled:
    """Means of k configurations over n settings, resampled over the settings; the same draws for all of them.

    Args:
        values: one number for each configuration and setting, `[k, n]`, n >= 2.
    """
    from scipy.stats import bootstrap  # a second of import, which studies without replicates need not wait for

    num_settings = values.shape[-1]

    def means(drawn: NDArray[np.int64], axis: int = -1) -> Values:
        """`drawn` is `[resamples, n]`, indices of settings; counting them makes the means one matrix product."""
        cells = drawn + num_settings * np.arange(len(drawn))[:, None]
        counts = np.bincount(cells.ravel(), minlength=drawn.size).reshape(drawn.shape)
        return np.asarray(values @ counts.T / num_settings)

    result = bootstrap(
        (np.arange(num_settings),),
        means,
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        confidence_level=_widened(num_settings),
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    interval = result.confidence_interval
    return Resampled(interval.low, interval.high, result.bootstrap_distribution)


def add_intervals(rows: Sequence[TrialRow], groups: Sequence[Sequence[TrialRow]]) -> None:
    """Add `INTERVALS` to each configuration, from its own finished runs; null where it has fewer than two.

    Args:
        rows: configurations, whose means may be null.
        groups: the runs of each of them, with their gains.
    """
    alike: dict[tuple[Setting, ...], list[tuple[TrialRow, str, list[float]]]] = {}
    for row, runs in zip(rows, groups, strict=True):
        row.update(dict.fromkeys(INTERVALS))
        for column in WITH_INTERVAL:
            values = values_by_setting(runs, column)
            if len(values) >= 2 and row[column] is not None:
                alike.setdefault(tuple(values), []).append((row, column, list(values.values())))
    for wanted in alike.values():
        resampled = resample_means(np.array([values for _, _, values in wanted]))
        for (row, column, _), low, high in zip(wanted, resampled.low, resampled.high, strict=True):
            row[f"{column}_low"], row[f"{column}_high"] = float(low), float(high)


def add_p_best(
    rows: Sequence[TrialRow], groups: Sequence[Sequence[TrialRow]], column: str, more_is_better: bool
) -> None:
    """Add `p_best` to each row: in which share of the resamples its mean of `column` is the best; ties are shared out.

    Finished configurations compete, those whose runs all have a value, at the settings that every one of them has.
    Null for the others and for bounds, and for all where they share fewer than two settings or the column is not a
    number of a run.
    """
    for row in rows:
        row["p_best"] = None
    competing: list[tuple[TrialRow, dict[Setting, float]]] = []
    for row, runs in zip(rows, groups, strict=True):
        competes = row["status"] == "finished" and row["role"] != "bound"
        if competes and column in runs[0] and row[column] is not None:
            competing.append((row, values_by_setting(runs, column)))
    if not competing:
        return
    first, *others = (values for _, values in competing)
    shared = [setting for setting in first if all(setting in values for values in others)]
    if len(shared) < 2:
        return
    means = resample_means(np.array([[values[setting] for setting in shared] for _, values in competing])).means
    for (row, _), share in zip(competing, share_of_best(means if more_is_better else -means), strict=True):
        row["p_best"] = float(share)


def share_of_best(means: Values) -> Values:
    """In which share of the resamples each configuration has the highest mean; `[k, resamples]` to `[k]`.

    Where several are best in a resample, each gets an equal part of it.
    """
    best = means.max(axis=0)
    is_best = means >= best - 1e-9 * np.maximum(1.0, abs(best))  # equal up to rounding is a tie
    return np.asarray((is_best / is_best.sum(axis=0)).mean(axis=1))


def paired_difference(
    a: Mapping[Setting, float], b: Mapping[Setting, float], more_is_better: bool = True
) -> Difference:
    """How much a exceeds b at the settings that both have.

    Args:
        a, b: a number of each run of a configuration, as `values_by_setting` gives it.
        more_is_better: whether the higher one is the better one.
    """
    shared = [setting for setting in sorted(a, key=repr) if setting in b]
    gaps = np.array([[a[setting] - b[setting] for setting in shared]])
    if len(shared) < 2:
        return Difference(float(gaps.mean()) if shared else None, None, None, len(shared), None)
    resampled = resample_means(gaps)
    better = share_of_best(np.vstack([resampled.means, np.zeros(NUM_RESAMPLES)]) * (1 if more_is_better else -1))
    return Difference(
        float(gaps.mean()), float(resampled.low[0]), float(resampled.high[0]), len(shared), float(better[0])
    )


def study_differences(
    first: Sequence[TrialRow], second: Sequence[TrialRow], column: str, more_is_better: bool = True
) -> tuple[StudyDifference, ...]:
    """Configurations that two studies have in common, in the order of the first study.

    Two are the same where role, method and searched settings agree (of several in one study, the first); what differs
    between the studies is then what is being compared. They are paired by setting, so they need orders, seeds and
    memory draws in common.

    Args:
        first, second: runs of the `trials` table of each, with their gains.
        column: a number of a run.
        more_is_better: as in `paired_difference`.
    """
    theirs = _by_identity(second)
    found = []
    for identity, (key, runs) in _by_identity(first).items():
        if identity in theirs:
            other, other_runs = theirs[identity]
            values = values_by_setting(runs, column), values_by_setting(other_runs, column)
            found.append(StudyDifference(key, other, identity[1], paired_difference(*values, more_is_better)))
    return tuple(found)


def _by_identity(runs: Sequence[TrialRow]) -> dict[tuple[str, str, str], tuple[str, list[TrialRow]]]:
    configurations: dict[tuple[str, str, str], tuple[str, list[TrialRow]]] = {}
    for (role, key), group in grouped(runs).items():
        params = json.dumps(parse_json(group[0]["params"]), sort_keys=True)
        configurations.setdefault((role, group[0]["method"], params), (key, group))
    return configurations


def _widened(num_settings: int) -> float:
    """The level at which percentiles of n values cover as an interval of Student's does at `LEVEL`."""
    from scipy.stats import norm, t

    quantile = t.ppf(0.5 + LEVEL / 2, num_settings - 1)
    return float(1 - 2 * norm.cdf(-math.sqrt(num_settings / (num_settings - 1)) * quantile))
