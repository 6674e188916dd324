"""How sure the numbers of configurations are: intervals, differences, and the probability of being best.

Every configuration is read at the settings that it shares with the others, so that what a hard order does to all of
them cancels in their differences. What settings can say is in `inference`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seekr_tune.analysis.configurations import TrialRow, grouped
from seekr_tune.analysis.inference import (
    Inference,
    Setting,
    Target,
    infer,
    level_matrix,
    probability_of_best,
    ratio,
)
from seekr_tune.documents import parse_json

WITH_INTERVAL = ("op", "normalised_gain", "gain_per_replayed_sample")
"""Columns whose means get `<column>_low` and `<column>_high`."""
INTERVALS = tuple(f"{column}_{end}" for column in WITH_INTERVAL for end in ("low", "high"))


@dataclass(frozen=True)
class StudyDifference:
    """One configuration in two studies: its key in each, and first minus second."""

    first: str
    second: str
    method: str
    difference: Inference


def setting_of(run: TrialRow) -> Setting:
    """The setting of a run of the `trials` table."""
    return Setting(tuple(run["tasks"]), int(run["config.seed"]), int(run["config.memory_draw"]), run["split"])


def target_of(runs: Sequence[TrialRow]) -> Target:
    """What the means of a study are to hold beyond, as its experiment declares it."""
    study = parse_json(runs[0]["config"]).get("study", {}) if runs else {}
    tuned, final = (study.get(name) or {} for name in ("replicates", "final"))
    asked = final if runs and runs[0]["split"] == "test" and final.get("pairs") else tuned
    declared: Target = "pairs" if asked.get("pairs") else study.get("target", "these_orders")
    return declared


def values_by_setting(runs: Sequence[TrialRow], column: str) -> dict[Setting, float]:
    """A number of each finished run of one configuration, by setting in a fixed order; runs without it are left out."""
    values = {setting_of(run): run[column] for run in runs if run["status"] == "finished"}
    return {setting: float(values[setting]) for setting in sorted(values, key=repr) if values[setting] is not None}


def add_intervals(rows: Sequence[TrialRow], groups: Sequence[Sequence[TrialRow]], target: Target) -> None:
    """Add `INTERVALS` to each configuration, from its own finished runs; null where its settings are too few.

    That of the normalised gain, a ratio of two means, is Fieller's; where the gap's own interval has 0 in it, the gain
    is null, too, and `why_no_gain` says so.

    Args:
        rows: configurations, whose means may be null.
        groups: the runs of each of them, with their gains.
        target: what the means are to hold beyond.
    """
    for row, runs in zip(rows, groups, strict=True):
        row.update(dict.fromkeys(INTERVALS))
        for column in ("op", "gain_per_replayed_sample"):
            if row[column] is not None:
                found = infer(values_by_setting(runs, column), target)
                row[f"{column}_low"], row[f"{column}_high"] = found.low, found.high
        if row["normalised_gain"] is None:
            continue
        ops, low, high = (values_by_setting(runs, column) for column in ("op", "op_seqft", "op_joint"))
        gains, gaps = ({s: own[s] - low[s] for s in own} for own in (ops, high))
        ends = ratio(gains, gaps, target)
        if isinstance(ends, str):
            row.update(normalised_gain=None, why_no_gain=ends)
        elif ends is not None:
            row["normalised_gain_low"], row["normalised_gain_high"] = ends


def add_beats_seqft(rows: Sequence[TrialRow], groups: Sequence[Sequence[TrialRow]], target: Target, void: bool) -> None:
    """Add `beats_seqft`: whether the mean of op - op_seqft is above 0, its interval where there is one.

    Args:
        void: no task was learned, so nothing is better than anything.
    """
    for row, runs in zip(rows, groups, strict=True):
        row["beats_seqft"] = None
        if row["status"] == "finished" and row["op"] is not None and row["op_seqft"] is not None and not void:
            ops, bounds = (values_by_setting(runs, column) for column in ("op", "op_seqft"))
            found = infer({setting: ops[setting] - bounds[setting] for setting in ops}, target)
            row["beats_seqft"] = (row["op"] - row["op_seqft"] if found.low is None else found.low) > 0


def add_p_best(
    rows: Sequence[TrialRow], groups: Sequence[Sequence[TrialRow]], column: str, more_is_better: bool, target: Target
) -> None:
    """Add `p_best` to each row: how probable it is that its mean of `column` is the best (`probability_of_best`).

    Finished configurations compete, those whose runs all have a value, at the settings that every one of them has.
    Null for the others and for bounds, and for all where they share too few settings or the column is not a number of
    a run.
    """
    for row in rows:
        row["p_best"] = None
    competing: list[tuple[TrialRow, dict[Setting, float]]] = []
    for row, runs in zip(rows, groups, strict=True):
        competes = row["status"] == "finished" and row["role"] != "bound"
        if competes and column in runs[0] and row[column] is not None:
            competing.append((row, values_by_setting(runs, column)))
    if len(competing) < 2:
        return
    competing.sort(key=lambda one: str(one[0]["trial"]))  # the same draws, whatever the rows' order
    first, *others = (values for _, values in competing)
    shared = [setting for setting in first if all(setting in values for values in others)]
    values = np.array([[values[setting] for setting in shared] for _, values in competing])
    levels = level_matrix(values, shared, target)
    if levels is not None:
        for (row, _), share in zip(competing, probability_of_best(levels if more_is_better else -levels), strict=True):
            row["p_best"] = float(share)


def paired_difference(a: Mapping[Setting, float], b: Mapping[Setting, float], target: Target) -> Inference:
    """How much a exceeds b at the settings that both have.

    Args:
        a, b: a number of each run of a configuration, as `values_by_setting` gives it.
        target: what the difference is to hold beyond.
    """
    return infer({setting: a[setting] - b[setting] for setting in sorted(a, key=repr) if setting in b}, target)


def study_differences(
    first: Sequence[TrialRow], second: Sequence[TrialRow], column: str, target: Target
) -> tuple[StudyDifference, ...]:
    """Configurations that two studies have in common, in the order of the first study.

    Two are the same where role, method and searched settings agree (of several in one study, the first); what differs
    between the studies is then what is being compared. They are paired by setting, so they need orders, seeds and
    memory draws in common.

    Args:
        first, second: runs of the `trials` table of each, with their gains.
        column: a number of a run.
        target: what the differences are to hold beyond.
    """
    theirs = _by_identity(second)
    found = []
    for identity, (key, runs) in _by_identity(first).items():
        if identity in theirs:
            other, other_runs = theirs[identity]
            values = values_by_setting(runs, column), values_by_setting(other_runs, column)
            found.append(StudyDifference(key, other, identity[1], paired_difference(*values, target)))
    return tuple(found)


def _by_identity(runs: Sequence[TrialRow]) -> dict[tuple[str, str, str], tuple[str, list[TrialRow]]]:
    configurations: dict[tuple[str, str, str], tuple[str, list[TrialRow]]] = {}
    for (role, key), group in grouped(runs).items():
        params = json.dumps(parse_json(group[0]["params"]), sort_keys=True)
        configurations.setdefault((role, group[0]["method"], params), (key, group))
    return configurations
