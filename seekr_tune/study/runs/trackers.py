"""Who follows a run as it is learned: TensorBoard's curves, and trackers of a user's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from seekr_tune.analysis.tensorboard import TrialWriter
from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.plugins import imported
from seekr_tune.records import StepRow, TrialRecord
from seekr_tune.study.directory.disk import disk_fault

_logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Follows one run, in the process that writes its results; made anew for each launch of the run (`Maker`)."""

    def log_step(self, row: StepRow) -> None:
        """A training step was taken."""

    def log_task(self, record: TrialRecord) -> None:
        """A task was finished: the last of the record. The one that was finished before a kill may come once more."""

    def close(self, record: TrialRecord | None = None) -> None:
        """The launch ends; with the record of a run that is finished or was pruned, else the run will go on."""


Maker = Callable[[TrialRecord, Path, int], Tracker]
"""Makes a tracker of a launch, a class or a function: of the run's record (its settings, the tasks that are finished),
the run's directory, and the number of steps that were logged before this launch and still hold. What an earlier launch
logged behind these is taken again, and is to be forgotten."""

MAKERS: Mapping[str, Maker] = {
    "tensorboard": lambda record, directory, steps_done: TrialWriter(directory / "events", steps_done)
}


class Trackers:
    """The trackers of an experiment. One that raises is not called again; the run goes on as if it were not there.

    A disk that is full or fails is raised: it is that of the run.
    """

    def __init__(self, config: Config, record: TrialRecord, directory: Path, steps_done: int) -> None:
        def make(name: str) -> Tracker:
            return maker_of(config, name)(record, directory, steps_done)

        self._made: dict[str, Tracker] = {}
        for name in config.training.trackers:
            made = self._ask(name, make, name)
            if made is not None:
                self._made[name] = made

    def log_step(self, row: StepRow) -> None:
        """A training step was taken."""
        for name, tracker in list(self._made.items()):
            self._ask(name, lambda to: to.log_step(row), tracker)

    def log_task(self, record: TrialRecord) -> None:
        """A task was finished."""
        for name, tracker in list(self._made.items()):
            self._ask(name, lambda to: to.log_task(record), tracker)

    def close(self, record: TrialRecord | None = None) -> None:
        """The launch ends; with the record of a run that will not go on."""
        while self._made:
            name, tracker = self._made.popitem()
            self._ask(name, lambda to: to.close(record), tracker)

    def _ask(self, name: str, call: Callable[[Any], Any], asked: Any) -> Any:
        try:
            return call(asked)
        except Exception as error:
            if disk_fault(error) is not None:
                raise
            self._made.pop(name, None)
            line = " ".join(f"{type(error).__name__}: {error}".split())
            _logger.warning("a tracker fails and is left out", extra={"fields": {"tracker": name, "error": line}})
            return None


def maker_of(config: Config, name: str) -> Maker:
    """What makes a tracker; code of a user is imported.

    Raises:
        ConfigError: it cannot be imported, or makes nothing.
    """
    if name in MAKERS:
        return MAKERS[name]
    found: Maker = imported("tracker", name, config.plugins[name])
    if not callable(found):
        raise ConfigError(f"tracker {name} ({config.plugins[name].origin}): is neither a class nor a function")
    return found
