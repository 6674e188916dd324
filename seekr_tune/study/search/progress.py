"""Where a study stands, by its runs' records: values of its configurations, the front, what is still to come."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from seekr_tune.analysis.front import dominates, on_front
from seekr_tune.config import Config, Direction
from seekr_tune.records import TrialRecord
from seekr_tune.study.search.objectives import as_gains, objective_values
from seekr_tune.study.search.protocol import replicates, settings_of_bounds


def configuration_values(records: Sequence[TrialRecord], config: Config) -> dict[str, tuple[float, ...]]:
    """By trial, its objectives as means over its replicates; only trials whose replicates are all finished."""
    wanted = len(replicates(config))
    return {key: _mean(runs) for key, runs in _finished(records, config).items() if len(runs) == wanted}


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
    best = on_front([as_gains(own, directions) for own in values.values()])
    return {key: own for (key, own), is_best in zip(values.items(), best, strict=True) if is_best}


def finalist_ranks(records: Sequence[TrialRecord], config: Config) -> dict[str, int | None]:
    """By trial with a finished replicate, how many trials keep it from being chosen at the end; None: it may be chosen.

    What keeps it from that are better trials of its group whose replicates are all finished: they will not change any
    more.
    """
    final, names = config.study.final, list(config.study.objectives)
    decisive = names if final.select == "pareto" else [final.by or names[0]]
    groups = {record.configuration_key: group_of(record.config, final.for_each) for record in records}

    def gains_of(values: Sequence[float]) -> tuple[float, ...]:
        by_name = dict(zip(names, as_gains(values, config.study.objectives.values()), strict=True))
        return tuple(by_name[name] for name in decisive)

    gains = {key: gains_of(_mean(runs)) for key, runs in _finished(records, config).items()}
    complete = configuration_values(records, config)
    spared = 0 if final.select == "pareto" else final.count - 1
    ranks: dict[str, int | None] = {}
    for key, own in gains.items():
        rivals = (gains[other] for other in complete if groups[other] == groups[key])
        better = sum(dominates(other, own) for other in rivals)
        ranks[key] = better if better > spared else None
    return ranks


def group_of(config: Mapping[str, Any], paths: Iterable[str]) -> str:
    """Equal for configurations that agree in the paths; what one does not have is null."""
    return json.dumps([_value_at(config, path) for path in paths], sort_keys=True)


def num_waiting(records: Sequence[TrialRecord], config: Config, told: Collection[str]) -> int:
    """Runs that were not begun and may still come, at most: how many a race spares is not known before it.

    Args:
        records: of the runs that were begun.
        config: the experiment.
        told: keys of the trials that the search knows the end of.
    """
    runs: dict[tuple[str, str], list[TrialRecord]] = defaultdict(list)
    for record in records:
        runs[record.role, record.configuration_key].append(record)
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


def _finished(records: Sequence[TrialRecord], config: Config) -> dict[str, list[list[float]]]:
    """By trial, the objectives of each finished replicate; one in which an objective has no value does not count."""
    values: dict[str, list[list[float]]] = defaultdict(list)
    for record in records:
        own = objective_values(record, config.study.objectives) if record.role == "trial" else None
        if own is not None:
            values[record.configuration_key].append(own)
    return dict(values)


def _mean(runs: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(fmean(column) for column in zip(*runs, strict=True))


def _value_at(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
