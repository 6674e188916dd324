"""From runs to configurations: gains against the bounds of the same setting, and means over replicates.

A configuration is run once for each order, seed and memory draw that the study asks for. Each run is compared with the
bounds of its own order and seed; only then are its numbers averaged with those of the other runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from seekr_tune.analysis.continual_metrics import normalised_gain
from seekr_tune.analysis.measures import Measures, quotient
from seekr_tune.analysis.sampled import LEVEL, Sampled, interval, tasks_learned
from seekr_tune.analysis.table import Estimate
from seekr_tune.config import ReplicatesConfig
from seekr_tune.documents import parse_json
from seekr_tune.records import TrialRecord, tuning_split

TrialRow = dict[str, Any]
"""One trial: a value for each column of the `trials` table, and for those that are added here."""

GAINS = ("normalised_gain", "gain_per_replayed_sample", "op_seqft", "op_joint")
"""Numbers that compare a run with the bounds of its setting."""

BY_CHANCE = 0.05
"""Share of the tasks of all runs that chance takes for learned, at most: no more is nothing."""

_AVERAGED = (
    "tasks_done",
    *(name for name in Measures.model_fields if name != "split"),
    "wall_seconds",
    "shared_seconds",
    *Sampled.model_fields,
    *GAINS,
)
"""Scores and costs; what else is a number names something, or is shared by all replicates."""


_OBJECTIVES = "config.study.objectives."
_LEVEL = f"{100 * LEVEL:.0f} %"


def add_gains(rows: Sequence[TrialRow]) -> None:
    """Add `GAINS` to every run, from the finished bounds among the rows that share its tasks, order, seed and split.

    Gains are null where there is no gap to close (`missing_gap`), and `why_no_gain` says so, or what else is missing.
    """
    references = _references([row for row in rows if row["role"] == "bound"])
    missing = missing_gap(rows)
    for row in rows:
        bounds = references.get(_setting(row), {})
        seqft, joint = bounds.get("seqft"), bounds.get("joint")
        row.update(dict.fromkeys(GAINS), op_seqft=seqft, op_joint=joint)
        if is_point(row) and seqft is not None and missing is None:
            row["gain_per_replayed_sample"] = quotient(row["op"] - seqft, row["distinct_replayed_samples"])
            row["normalised_gain"] = normalised_gain(row["op"], seqft, joint)
        row["why_no_gain"] = None if row["normalised_gain"] is not None else missing or _unbounded(row, seqft, joint)


def nothing_learned(rows: Sequence[TrialRow]) -> str | None:
    """Why no score of these runs says anything: no task was learned; None where one was, or it is not known."""
    known = [(row["tasks_learned"], len(row["tasks"])) for row in rows if row["tasks_learned"] is not None]
    learned, tasks = sum(count for count, _ in known), sum(count for _, count in known)
    if not known or learned > BY_CHANCE * tasks:
        return None
    return (
        f"no task was learned: just after learning, {learned} of {tasks} scores are above the best constant answer "
        f"beyond their {_LEVEL} interval"
    )


def nothing_learned_by(records: Sequence[TrialRecord]) -> str | None:
    """`nothing_learned` of runs by their records."""
    rows: list[TrialRow] = []
    most = BY_CHANCE * sum(len(record.tasks) for record in records)
    for record in records:  # of a thousand runs, the first few settle it
        rows.append({"tasks": record.tasks, "tasks_learned": tasks_learned(record, tuning_split(record))})
        if sum(row["tasks_learned"] or 0 for row in rows) > most:
            return None
    return nothing_learned(rows)


def void_line(void: str) -> str:
    """What is said of a study in place of its results.

    Args:
        void: what `nothing_learned` returned.
    """
    return f"{void[0].upper()}{void[1:]}; no number here is a result: there is no best one, no front, no gain."


def missing_gap(rows: Sequence[TrialRow]) -> str | None:
    """Why there is no gap between no replay and joint training to close; None where there is one, or it is not known.

    Over the orders and seeds that have both bounds. These share their samples, so errors do not average out: the
    interval is that of the mean difference with the mean of its standard errors, that of two independent scores.
    """
    settings: dict[tuple[Any, ...], dict[str, list[TrialRow]]] = {}
    for row in rows:
        if row["role"] == "bound" and is_point(row):
            settings.setdefault(_setting(row), {}).setdefault(row["method"], []).append(row)
    pairs = [(own["seqft"][0], own["joint"][0]) for own in settings.values() if own.keys() >= {"seqft", "joint"}]
    errors = [[row["op_sample_error"] for row in pair] for pair in pairs]
    if not pairs or any(error is None for own in errors for error in own):
        return None
    samples = min(int(row["scored_samples"]) for pair in pairs for row in pair)
    seqft, joint = (fmean(pair[index]["op"] for pair in pairs) for index in (0, 1))
    low, high = interval(joint - seqft, fmean(math.hypot(*own) for own in errors), samples)
    if low <= 0:
        return (
            f"joint training ({joint:.1f} %) is not above no replay ({seqft:.1f} %): the {_LEVEL} interval of the "
            f"difference is {low:+.1f} to {high:+.1f} points, so there is no gap to close"
        )
    if not any(_is_above_floor([pair[index] for pair in pairs], samples) for index in (0, 1)):
        return (
            f"neither joint training ({joint:.1f} %) nor no replay ({seqft:.1f} %) is above one constant answer a task "
            f"({fmean(pair[0]['op_floor'] for pair in pairs):.1f} %) beyond its {_LEVEL} interval: the gap between "
            "them is one between two models that learned nothing"
        )
    return None


def _is_above_floor(runs: Sequence[TrialRow], samples: int) -> bool:
    """Whether their mean OP is above that of constant answers; True where that is not known."""
    if any(row["op_floor"] is None or row["op_margin_error"] is None for row in runs):
        return True
    margin = fmean(row["op"] - row["op_floor"] for row in runs)
    return interval(margin, fmean(row["op_margin_error"] for row in runs), samples)[0] > 0


def _unbounded(row: TrialRow, seqft: float | None, joint: float | None) -> str:
    """Why one run has no gain, where the study has a gap."""
    if not is_point(row):
        return "it has not come to its end"
    lacking = [name for name, op in (("seqft", seqft), ("joint", joint)) if op is None]
    if lacking:
        return f"no finished bound {' and no '.join(lacking)} with its order and seed (study.bounds)"
    return f"joint training ({joint:.1f} %) is not above no replay ({seqft:.1f} %) with its order and seed"


def is_point(row: TrialRow) -> bool:
    """Whether a row has come to its end and has a score."""
    return row["status"] == "finished" and row["op"] is not None


def configuration_key(row: TrialRow) -> str:
    """Key of the configuration that a row is a run of; its own where it stands alone."""
    return str(row["configuration"] or row["trial"])


def by_configuration(rows: Iterable[TrialRow]) -> list[TrialRow]:
    """One row for each configuration, trial or bound, in the order in which they first appear.

    Numbers are means over its finished runs (over all of its runs while none is finished); a mean is null where one of
    them has no value. What is no number (and what stands in the config) is that of its first replicate. `replicates`
    counts the finished runs, and `op_se` is the standard error of `op`.
    """
    runs = list(rows)
    has_gap = missing_gap(runs) is None
    return [_merged(group, has_gap) for group in grouped(runs).values()]


def grouped(rows: Iterable[TrialRow]) -> dict[tuple[str, str], list[TrialRow]]:
    """The runs of each configuration by replicate, under its role and key, in the order of `by_configuration`."""
    groups: dict[tuple[str, str], list[TrialRow]] = {}
    for row in rows:
        groups.setdefault((row["role"], configuration_key(row)), []).append(row)
    return {key: sorted(group, key=lambda row: int(row["replicate"])) for key, group in groups.items()}


def mean(values: Sequence[float | None]) -> float | None:
    """Their mean; None where there are none, or one has no value."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return known[0] if len(set(known)) == 1 else fmean(known)


def standard_error(values: Sequence[float | None]) -> float | None:
    """Sample standard deviation / sqrt(n); None for fewer than two values, or where one has no value."""
    known = [value for value in values if value is not None]
    if len(known) < 2 or len(known) < len(values):
        return None
    return stdev(known) / math.sqrt(len(known))


def estimate(values: Sequence[float | None]) -> Estimate:
    """Mean and standard error; null where one of the values is missing."""
    return Estimate(mean(values), standard_error(values))


def own_objectives(row: TrialRow) -> list[str]:
    """Columns of objectives of the user's own."""
    named = (column.removeprefix(_OBJECTIVES) for column in row if column.startswith(_OBJECTIVES))
    return [name for name in named if name in row and name not in _AVERAGED]


def _merged(runs: Sequence[TrialRow], has_gap: bool) -> TrialRow:
    first, finished = runs[0], [row for row in runs if row["status"] == "finished"]
    counted = finished or runs
    gain = _gain(finished) if has_gap else None
    return {
        **first,
        **{column: mean([row.get(column) for row in counted]) for column in (*_AVERAGED, *own_objectives(first))},
        "trial": configuration_key(first),
        "status": _status(runs),
        "error": next((row["error"] for row in runs if row["error"] is not None), None),
        "normalised_gain": gain,
        "why_no_gain": None if gain is not None else _why_no_gain(counted),
        "replicates": len(finished),
        "op_se": standard_error([row["op"] for row in finished]),
    }


def _why_no_gain(runs: Sequence[TrialRow]) -> str | None:
    return next((row["why_no_gain"] for row in runs if row.get("why_no_gain") is not None), None)


def _gain(runs: Sequence[TrialRow]) -> float | None:
    """The share of the gap that is closed over all runs: a ratio of sums, for a mean of ratios leans to small gaps."""
    known = [(row.get("op"), row.get("op_seqft"), row.get("op_joint")) for row in runs]
    if not known or any(None in values for values in known):
        return None
    op, seqft, joint = (fmean(values) for values in zip(*known, strict=True))
    return normalised_gain(op, seqft, joint)


def _status(runs: Sequence[TrialRow]) -> str:
    """Of the whole: finished when every replicate is; one that gets no further replicates was pruned."""
    statuses = {row["status"] for row in runs}
    for status in ("failed", "pruned", "running"):
        if status in statuses:
            return status
    if len(runs) >= _num_replicates(runs[0]):
        return "finished"
    return "running" if runs[0]["role"] == "bound" else "pruned"


def _num_replicates(row: TrialRow) -> int:
    """Runs that the study asks for; a bound has no memory, so it is run once for each order and seed."""
    if row["configuration"] is None or row["split"] == "test":  # final runs are not raced
        return 1
    study = parse_json(row["config"])["study"]
    asked = ReplicatesConfig.model_validate(study["replicates"])
    return asked.count // asked.memory_draws if row["role"] == "bound" else asked.count


def _setting(row: TrialRow) -> tuple[Any, ...]:
    """What a trial and its bounds must share: tasks and their order, seed, and the split that was scored."""
    return tuple(row["tasks"]), row["config.seed"], row["split"]


def _references(bounds: Sequence[TrialRow]) -> Mapping[tuple[Any, ...], Mapping[str, float]]:
    """By setting: OP of each bound's method; several runs of one bound in one setting are averaged."""
    scores: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for row in filter(is_point, bounds):
        scores.setdefault(_setting(row), {}).setdefault(row["method"], []).append(row["op"])
    return {key: {method: fmean(ops) for method, ops in methods.items()} for key, methods in scores.items()}
