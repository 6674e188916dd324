"""A queue of runs as Ray Tune wants to see it: a searcher that hands them out, and is told how they ended."""

from __future__ import annotations

import json
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.search import Searcher

from seekr_tune.config import Config
from seekr_tune.errors import DataError, ModelError, StudyError, UserError
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.layout import trial_path
from seekr_tune.study.runs.console import ProgressConsole, TaskProgress
from seekr_tune.study.runs.outcome import run_failed
from seekr_tune.study.runs.request import TrialRequest

_logger = logging.getLogger(__name__)

REFUSALS: dict[str, type[UserError]] = {kind.__name__: kind for kind in (DataError, ModelError, StudyError)}
"""Errors that no setting of a trial can be blamed for: they end the study, and its trials stay unfinished."""


class RunQueue(Protocol):
    """What is to be run, and what is told of it: the search of a study, or the final runs of `finalize`."""

    @property
    def config(self) -> Config:
        """The experiment that the runs are variants of."""

    @property
    def directory(self) -> Path:
        """Where `trials/<key>/` of the runs are; absolute."""

    @property
    def num_left(self) -> int:
        """Runs that may still be handed out, at most."""

    @property
    def is_done(self) -> bool:
        """Whether nothing will be handed out any more."""

    def next(self) -> TrialRequest | None:
        """The next run; None when there is none now, though there may be when a run has ended."""

    def link(self, request: TrialRequest, ray_trial_id: str) -> None:
        """Which Ray Tune trial runs a request."""

    def finish(self, request: TrialRequest) -> None:
        """A run has ended: its directory says how."""

    def record(self, key: str) -> TrialRecord | None:
        """What a run wrote so far; None before it was begun."""


class QueueSearcher(Searcher):
    """The queue as Ray Tune wants to see it.

    Args:
        queue: the runs.
        stop: asks whether to stop: then nothing more is handed out.
        limit: runs at the same time.
        progress: where to show them.
        on_finished: called after each run that has ended.
    """

    def __init__(
        self,
        queue: RunQueue,
        stop: Callable[[], bool],
        limit: int,
        progress: ProgressConsole,
        on_finished: Callable[[], None],
    ) -> None:
        super().__init__()
        self._queue, self._stop, self._limit = queue, stop, limit
        self._progress, self._on_finished = progress, on_finished
        self._live: dict[str, TrialRequest] = {}
        self._lost: deque[TrialRequest] = deque()
        self._losses: Counter[str] = Counter()
        self._is_stopped = False
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        if self._is_stopped or self._stop():
            return Searcher.FINISHED
        if len(self._live) < self._limit and self.error is None:
            with self._ending_on_error():
                return self._suggest(trial_id)
        return None

    def _suggest(self, trial_id: str) -> Any:
        request = self._lost.popleft() if self._lost else self._queue.next()
        if request is None:
            return Searcher.FINISHED if self._queue.is_done or not self._live else None
        self._live[trial_id] = request
        self._queue.link(request, trial_id)
        return {"request": json.dumps(asdict(request))}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "refusal" in result:
            self.error = REFUSALS[result["refusal"]](result["message"])
        elif "tasks_done" in result:
            self._progress.task_finished(TaskProgress(**{name: result[name] for name in _PROGRESS}))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        request = self._live.pop(trial_id)
        with self._ending_on_error():
            self._complete(request, error)

    def _complete(self, request: TrialRequest, error: bool) -> None:
        record = self._queue.record(request.key)
        if error and not has_ended(record):
            # Not left to Tune, which gives a run up at once if its process dies while it is got ready.
            self._losses[request.key] += 1
            if self._losses[request.key] <= self._queue.config.training.max_failures:
                self._lost.append(request)
                return
            lost = "its process was lost more often than training.max_failures allows"
            directory = trial_path(self._queue.directory, request.key)
            record = run_failed(directory, request.config(self._queue.config), request, lost)
        if record is None or not has_ended(record):  # the launch ends before the run: a later one goes on with it
            self._is_stopped = True
            return
        self._queue.finish(request)
        fields = {"trial": record.trial, "status": record.status, "seconds": round(record.wall_seconds, 3)}
        fields |= {} if record.error is None else {"error": record.error}
        level = logging.ERROR if record.status == "failed" else logging.INFO
        _logger.log(level, "run ended", extra={"fields": fields})
        self._progress.run_finished(record)
        self._on_finished()

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        """Tune would take an error of ours for one of the trial, and try that again."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its settings; nobody reads them again


class StopWhen(tune.Stopper):
    """Ends the launch as soon as a run was refused, or what became of it could not be noted.

    Args:
        searcher: knows that.
        require_there: raises where the study is not in its place any more; that ends Tune without another word of it,
            which would make the directory again.
    """

    def __init__(self, searcher: QueueSearcher, require_there: Callable[[], None]) -> None:
        self._searcher, self._require_there = searcher, require_there

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as that of the searcher

    def stop_all(self) -> bool:  # asked after every event, and ten times a second without one
        self._require_there()
        return self._searcher.error is not None


_PROGRESS = tuple(TaskProgress.__dataclass_fields__)


def has_ended(record: TrialRecord | None) -> bool:
    """Whether a run will not go on by itself."""
    return record is not None and record.status in ("finished", "pruned", "failed")
