"""Where a study stands, by its runs' records: values of its configurations, the front, what is still to come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from seekr_tune.analysis.record import TrialRecord
from seekr_tune.config import Config, Direction
from seekr_tune.study.search.objectives import objective_values
from seekr_tune.study.search.protocol import replicates, settings_of_bounds


def configuration_values(records: Sequence[TrialRecord], config: Config) -> dict[str, tuple[float, ...]]:
    """By trial, its objectives as means over its replicates; only trials whose replicates are all finished."""
    values: dict[str, list[list[float]]] = defaultdict(list)
    for record in records:
        own = objective_values(record, config.study.objectives) if record.role == "trial" else None
        if own is not None:
            values[record.configuration or record.trial].append(own)
    wanted = len(replicates(config))
    return {
        key: tuple(fmean(column) for column in zip(*runs, strict=True))
        for key, runs in values.items()
        if len(runs) == wanted
    }


def best_of(values: Mapping[str, tuple[float, ...]], direction: Direction) -> str | None:
    """The trial that is best in the first objective; the earliest of equals."""
    if not values:
        return None
    choose = max if direction == "maximize" else min
    return choose(values, key=lambda key: values[key][0])


def pareto_front(
    values: Mapping[str, tuple[float, ...]], directions: Sequence[Direction]
) -> dict[str, tuple[float, ...]]:
    """The trials that no other one equals or beats in every objective while beating it in one; equals share it."""
    signs = [1.0 if direction == "maximize" else -1.0 for direction in directions]
    gains = {key: [sign * value for sign, value in zip(signs, own, strict=True)] for key, own in values.items()}

    def is_beaten(mine: list[float]) -> bool:
        return any(
            other != mine and all(theirs >= own for theirs, own in zip(other, mine, strict=True))
            for other in gains.values()
        )

    return {key: own for key, own in values.items() if not is_beaten(gains[key])}


def num_waiting(records: Sequence[TrialRecord], config: Config, told: Collection[str]) -> int:
    """Runs that were not begun and may still come, at most: how many a race spares is not known before it.

    Args:
        records: of the runs that were begun.
        config: the experiment.
        told: keys of the trials that the search knows the end of.
    """
    runs: dict[tuple[str, str], list[TrialRecord]] = defaultdict(list)
    for record in records:
        runs[record.role, record.configuration or record.trial].append(record)
    waiting = 0
    for role, asked, each in (
        ("trial", config.study.trials, len(replicates(config))),
        ("bound", len(config.study.bounds), len(settings_of_bounds(replicates(config)))),
    ):
        begun = {key: own for (of, key), own in runs.items() if of == role}
        unseen = len(set(told) - set(begun)) if role == "trial" else 0
        waiting += max(0, asked - len(begun) - unseen) * each
        for key, own in begun.items():
            is_revived = any(record.revived for record in own)
            has_ended = any(record.status in ("pruned", "failed") for record in own) or (key in told and not is_revived)
            waiting += 0 if has_ended and role == "trial" else max(0, each - len(own))
    return waiting


def seconds_left(records: Sequence[TrialRecord], waiting: int, slots: int) -> float | None:
    """Runs that are still to be done x mean time of a finished run / runs at the same time; None without a finished
    one."""
    times = [record.wall_seconds for record in records if record.status == "finished" and record.wall_seconds > 0]
    if not times:
        return None
    begun = sum(1 - record.tasks_done / len(record.tasks) for record in records if record.status == "running")
    return (begun + waiting) * fmean(times) / slots
