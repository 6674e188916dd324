"""Comparing trials at equal positions: after as many replicates, and as many tasks of the last one. Pure functions.

Average accuracy after two tasks says nothing about average accuracy after five, so a value counts at its position only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple

from seekr_tune.analysis.front import on_front
from seekr_tune.config import Direction, PruningConfig, RacingConfig
from seekr_tune.records import TrialRecord
from seekr_tune.study.runs.objectives import prefix
from seekr_tune.study.search.objectives import as_gains, objective_value

Values = tuple[float, ...]
Settings = PruningConfig | RacingConfig
Rule = Callable[[Values, Sequence[Values], Sequence[Direction], Settings], bool]
"""Whether a trial should stop: its values, those of the others at its position, directions, settings of the rule."""


class Position(NamedTuple):
    """How far a configuration is: `tasks` of the replicate with this index, and all replicates before."""

    replicate: int
    tasks: int


def at_position(records: Sequence[TrialRecord], objectives: Mapping[str, Direction]) -> dict[Position, Values]:
    """The objectives of a configuration at every position that it reached: means over its replicates so far.

    Args:
        records: of its replicates, in order; all but the last one have learned every task.
        objectives: what is compared, in order. A position where one of them has no value is left out.
    """
    found: dict[Position, Values] = {}
    for replicate, record in enumerate(records):
        for tasks in range(1, record.tasks_done + 1):
            runs = [_values(one, tasks, objectives) for one in records[: replicate + 1] if one.tasks_done >= tasks]
            complete = [values for values in runs if values is not None]
            if len(complete) == replicate + 1:
                found[Position(replicate, tasks)] = tuple(fmean(column) for column in zip(*complete, strict=True))
    return found


def is_hopeless(
    own: Values,
    others: Sequence[Values],
    directions: Sequence[Direction],
    settings: Settings,
    rule: Rule | None = None,
) -> bool:
    """Whether a trial should not go on, given the values of the others at its position.

    Args:
        own, others: values at one position.
        directions: of the objectives.
        settings: of the rule; with fewer others than its `startup_trials` nobody is hopeless.
        rule: one of a user's own; None: that of the settings.
    """
    return len(others) >= settings.startup_trials and (rule or RULES[settings.rule])(own, others, directions, settings)


def _never(own: Values, others: Sequence[Values], directions: Sequence[Direction], settings: Settings) -> bool:
    return False


def _below_median(own: Values, others: Sequence[Values], directions: Sequence[Direction], settings: Settings) -> bool:
    if len(directions) == 1:
        (mine,) = as_gains(own, directions)
        return mine < median(as_gains(values, directions)[0] for values in others)
    own_rank, *theirs = ranks([own, *others], directions)
    return own_rank > median(theirs)


def _not_among_best(own: Values, others: Sequence[Values], directions: Sequence[Direction], settings: Settings) -> bool:
    own_rank, *theirs = ranks([own, *others], directions)
    better = sum(rank < own_rank for rank in theirs)
    return better >= max(1, math.ceil((len(others) + 1) / settings.reduction_factor))


RULES: Mapping[str, Rule] = {"none": _never, "median": _below_median, "halving": _not_among_best}
"""Rules of pruning and racing. With several objectives values are compared by their Pareto rank among all of them: what
nobody beats is never stopped. Equals share their fate."""


def is_rung(tasks: int, settings: PruningConfig) -> bool:
    """Whether trials are compared after this many tasks."""
    if settings.rule != "halving":
        return settings.rule != "none" and tasks >= settings.grace_tasks
    rung = settings.grace_tasks
    while rung < tasks:
        rung *= settings.reduction_factor
    return rung == tasks


def ranks(values: Sequence[Values], directions: Sequence[Direction]) -> list[int]:
    """Rank 1: beaten by nobody; rank 2: beaten by rank 1 only; and so on. One objective: the order of its values."""
    left = {number: as_gains(one, directions) for number, one in enumerate(values)}
    found, rank = [0] * len(left), 0
    while left:
        rank += 1
        for number, is_best in zip(list(left), on_front(list(left.values())), strict=True):
            if is_best:
                found[number] = rank
                del left[number]
    return found


def _values(record: TrialRecord, tasks: int, objectives: Mapping[str, Direction]) -> Values | None:
    cut = prefix(record, tasks)
    values = [objective_value(cut, name) for name in objectives]
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(values) else None
