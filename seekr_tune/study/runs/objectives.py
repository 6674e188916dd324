"""Objectives of a user's own: functions from the record of a run to a number, asked by the run itself after each task.

Their values are a part of the record, so whatever reads a study reads them there, and imports nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError, UserError
from seekr_tune.plugins import imported
from seekr_tune.records import TrialRecord

Objective = Callable[[TrialRecord], float | None]
"""The value of a finished run. None, or what is not finite: it has none. Asked after each task too, with the record as
it would be if the stream ended there; so trials are compared at equal positions."""


def own_objectives(config: Config) -> dict[str, Objective]:
    """The objectives of an experiment that are code of a user's own, imported.

    Raises:
        ConfigError: one cannot be imported, or is no function.
    """
    found: dict[str, Objective] = {}
    for name in config.study.objectives:
        if name in config.plugins:
            found[name] = imported("objective", name, config.plugins[name])
            if not callable(found[name]):
                raise ConfigError(f"objective {name} ({config.plugins[name].origin}): is no function")
    return found


def with_objectives(record: TrialRecord, own: Mapping[str, Objective]) -> TrialRecord:
    """The record with the values of a user's own objectives after each of its finished tasks.

    Raises:
        ConfigError: one raises, or gives no number.
    """
    if not own:
        return record
    scored = {cell.trained_index for cell in record.scores}
    values: dict[str, tuple[float | None, ...]] = {}
    for name, function in own.items():
        cuts = (prefix(record, done) if done - 1 in scored else None for done in range(1, record.tasks_done + 1))
        values[name] = tuple(None if cut is None else _asked(name, function, cut) for cut in cuts)
    return record.model_copy(update={"objectives": values})


def _asked(name: str, function: Objective, record: TrialRecord) -> float | None:
    try:
        found = function(record.model_copy(update={"status": "finished"}))
        value = None if found is None else float(found)
    except UserError:
        raise
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"objective {name} fails after {record.tasks_done} tasks of {record.trial}: {line}"
        ) from error
    return value if value is not None and math.isfinite(value) else None


def prefix(record: TrialRecord, tasks_done: int) -> TrialRecord:
    """The record as it would be if the stream had ended after its first tasks; time is taken in proportion."""
    share = tasks_done / record.tasks_done if record.tasks_done else 0.0
    return record.model_copy(
        update={
            "tasks": record.tasks[:tasks_done],
            "tasks_done": min(tasks_done, record.tasks_done),
            "scores": tuple(
                cell for cell in record.scores if cell.trained_index < tasks_done and cell.evaluated_index < tasks_done
            ),
            "replay": tuple(row for row in record.replay if row.task_index < tasks_done),
            "timing": tuple(row for row in record.timing if row.task_index < tasks_done),
            "objectives": {name: values[:tasks_done] for name, values in record.objectives.items()},
            "wall_seconds": record.wall_seconds * share,
        }
    )
