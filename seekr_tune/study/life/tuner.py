"""Running a queue of runs on Ray Tune.

Tune decides where and when a run starts; what runs next and what became of it stand in the queue and in the runs' own
directories. Tune's experiment state is thrown away: a resumed study is a new Tuner over the same queue.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.search import Searcher

from seekr_tune.analysis.record import TrialRecord
from seekr_tune.config import Config, TrainingConfig
from seekr_tune.errors import DataError, ModelError, SeekrTuneError, StudyError, UserError
from seekr_tune.study.directory.full_disk import full_disk, no_space
from seekr_tune.study.directory.layout import ray_path, trial_path
from seekr_tune.study.life.stopping import StopFile
from seekr_tune.study.runs.console import ProgressConsole, TaskProgress
from seekr_tune.study.runs.outcome import read_record_of, run_failed
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.storage import home_of, known_home
from seekr_tune.training.session import HEAD_NODE, this_node

_REFUSALS: dict[str, type[UserError]] = {kind.__name__: kind for kind in (DataError, ModelError, StudyError)}
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


@dataclass(frozen=True)
class Launch:
    """What every run of a queue is told.

    Attributes:
        experiment: that the runs are variants of.
        directory: where their directories are, absolute.
        stop: asks whether to stop.
        cache: first tasks and bounds that runs share; None shares nothing.
        judge: stops hopeless trials after a task; None stops none.
    """

    experiment: Config
    directory: Path
    stop: StopFile
    cache: Path | None = None
    judge: Callable[[TrialRecord], bool] | None = None


def run_queue(
    queue: RunQueue, launch: Launch, limit: int, progress: ProgressConsole, on_finished: Callable[[], None]
) -> None:
    """Run what is left in the queue, until it is done or somebody asks to stop. Needs a Ray session.

    Args:
        queue: the runs.
        launch: what each of them is told.
        limit: runs at the same time.
        progress: where to show them.
        on_finished: called after each run that has ended.

    Raises:
        UserError: the data, the model or a directory cannot be used; the rest can be run later.
    """
    home = home_of(queue.directory, queue.config)
    storage = ray_path(queue.directory)
    shutil.rmtree(storage, ignore_errors=True)  # of earlier launches; nobody reads it
    searcher = QueueSearcher(queue, launch.stop, limit, progress, on_finished)
    trainable = tune.with_resources(
        tune.with_parameters(run_on_tune, launch=launch), _resources_of_trial(queue.config.training, home is not None)
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,  # the searcher says when it is finished
            reuse_actors=True,
            trial_name_creator=_key_of,
            trial_dirname_creator=_key_of,
        ),
        run_config=tune.RunConfig(
            name=time.strftime("%Y%m%d-%H%M%S"),
            storage_path=str(storage),
            stop=_StopWhen(searcher),
            verbose=0,
        ),
    )
    tuner.fit()
    if searcher.error is not None:
        raise searcher.error


def run_on_tune(settings: dict[str, Any], launch: Launch) -> None:
    """One run in a process of Ray Tune."""
    from ray.train import TrainingFailedError

    request = TrialRequest(**json.loads(settings["request"]))
    directory = trial_path(launch.directory, request.key)
    config = launch.experiment
    try:
        config = request.config(launch.experiment)
        if not has_ended(read_record_of(launch.directory, request.key)):  # Tune tries a failed run again
            _run(launch, config, directory, request)
    except SeekrTuneError as error:
        if type(error).__name__ in _REFUSALS:
            _refuse(error)
        else:
            run_failed(directory, config, request, error)
    except TrainingFailedError as error:
        run_failed(directory, config, request, error)
    except Exception as error:
        if no_space(error):  # no fault of the run, which would have nowhere to write that it failed
            _refuse(full_disk(directory, f"go on with `seekr-tune resume {launch.directory}`"))
            return
        run_failed(directory, config, request, error)
        raise  # a fault of ours: this process may be unfit for another trial, so let Tune end it
    tune.report({"ended": True})  # Tune prints a line of its own for a trial that never reported


def _refuse(error: SeekrTuneError) -> None:
    tune.report({"refusal": type(error).__name__, "message": str(error)})


def _run(launch: Launch, config: Config, directory: Path, request: TrialRequest) -> None:
    from seekr_tune.study.runs.group import run_as_rank, run_in_group
    from seekr_tune.training.strategy import local_workers

    shared: dict[str, Any] = {
        "config": config,
        "directory": directory,
        "request": request,
        "ray_trial_id": tune.get_context().get_trial_id(),
        "cache": launch.cache,
        "stops": launch.judge,
        "stop_asked": launch.stop,
    }
    if config.training.workers == 0:
        run_as_rank(local_workers(config), _report, **shared)
        return
    from ray.tune.integration.ray_train import TuneReportCallback

    forward = TuneReportCallback()  # type: ignore[no-untyped-call]
    run_in_group(**shared, home=known_home(launch.directory), callbacks=[forward])


def _report(metrics: Mapping[str, Any]) -> None:
    tune.report(dict(metrics))


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
            self.error = _REFUSALS[result["refusal"]](result["message"])
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


class _StopWhen(tune.Stopper):
    """Ends the launch as soon as a run was refused, or what became of it could not be noted."""

    def __init__(self, searcher: QueueSearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._searcher.error is not None


_PROGRESS = tuple(TaskProgress.__dataclass_fields__)


def has_ended(record: TrialRecord | None) -> bool:
    """Whether a run will not go on by itself."""
    return record is not None and record.status in ("finished", "pruned", "failed")


def _key_of(trial: Any) -> str:
    return str(json.loads(trial.config["request"])["key"])


def _resources_of_trial(training: TrainingConfig, stays_here: bool) -> Any:
    if training.workers == 0:
        return tune.PlacementGroupFactory([dict(training.resources_per_worker)])
    # The worker group has resources of its own, outside the trial's. Where its workers do not see the study's
    # directory, the trial itself must.
    return {"cpu": 0, this_node() if stays_here else HEAD_NODE: 0.001}
