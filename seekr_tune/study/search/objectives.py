"""What a study optimises: columns of the ledger, and what functions of a user's own made of runs."""

from __future__ import annotations

import math
from collections.abc import Iterable

from seekr_tune.analysis.measures import Measures, measure
from seekr_tune.config import Config, Direction
from seekr_tune.config.messages import hint
from seekr_tune.errors import ConfigError
from seekr_tune.records import TrialRecord
from seekr_tune.study.runs.objectives import own_objectives

OBJECTIVES = (*(name for name in Measures.model_fields if name != "split"), "wall_seconds")
"""Columns that a study can optimise."""


def require_objectives(config: Config) -> None:
    """Refuse what a study cannot optimise; functions of a user's own are imported.

    Raises:
        ConfigError: naming it, and what it may have been meant to be.
    """
    from seekr_tune.analysis.ledger import COLUMNS  # with Arrow, which those who only read a study do without

    for name in config.study.objectives:
        if name in config.plugins:
            if name in COLUMNS["trials"]:
                raise ConfigError(f"study.objectives: {name} is a column of the ledger already; rename the function")
        elif name not in OBJECTIVES:
            raise ConfigError(f"study.objectives: there is no column {name!r}; {hint(name, OBJECTIVES)}")
    own_objectives(config)


def objective_value(record: TrialRecord, name: str) -> float | None:
    """One objective of a run; None if its scores do not give it, or if it is not finite."""
    return _value(record, measure(record), name)


def objective_values(record: TrialRecord, objectives: dict[str, Direction]) -> list[float] | None:
    """All objectives of a finished run in the order of the config; None if it failed or one has no value."""
    if record.status != "finished":
        return None
    measures = measure(record)
    values = [_value(record, measures, name) for name in objectives]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _value(record: TrialRecord, measures: Measures, name: str) -> float | None:
    if name not in OBJECTIVES:
        own = record.objectives.get(name, ())
        return own[record.tasks_done - 1] if 0 < record.tasks_done <= len(own) else None
    value: float | None = record.wall_seconds if name == "wall_seconds" else getattr(measures, name)
    return None if value is None or not math.isfinite(value) else float(value)


def as_gains(values: Iterable[float], directions: Iterable[Direction]) -> tuple[float, ...]:
    """Objectives with signs such that more is better in each."""
    signed = zip(values, directions, strict=True)
    return tuple(value if direction == "maximize" else -value for value, direction in signed)
