"""Running the queue of a study on Ray Tune.

Tune decides where and when a run starts; what runs next and what became of it stand in the queue and in the runs' own
directories. Tune's experiment state is thrown away: a resumed study is a new Tuner over the same queue.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from seekr_tune.analysis.record import TrialRecord
from seekr_tune.config import Config, TrainingConfig
from seekr_tune.errors import DataError, ModelError, SeekrTuneError, StudyError, UserError
from seekr_tune.study.console import ProgressConsole, TaskProgress
from seekr_tune.study.layout import ray_path, trial_path
from seekr_tune.study.outcome import read_record_of, run_failed
from seekr_tune.study.request import TrialRequest
from seekr_tune.study.search import TrialQueue
from seekr_tune.study.storage import home_of, known_home
from seekr_tune.training.session import HEAD_NODE, this_node

_REFUSALS: dict[str, type[UserError]] = {kind.__name__: kind for kind in (DataError, ModelError, StudyError)}
"""Errors that no setting of a trial can be blamed for: they end the study, and its trials stay unfinished."""


@dataclass(frozen=True)
class Launch:
    """What every run of a study is told.

    Attributes:
        experiment: the study's experiment.
        directory: the study's directory, absolute.
    """

    experiment: Config
    directory: Path


def run_queue(queue: TrialQueue, limit: int, progress: ProgressConsole, on_finished: Callable[[], None]) -> None:
    """Run what is left in the queue. Needs a Ray session.

    Args:
        queue: of the study; nothing in it is left running when this returns.
        limit: runs at the same time.
        progress: where to show them.
        on_finished: called after each finished run.

    Raises:
        UserError: the data, the model or a directory cannot be used; the study can be resumed.
        KeyboardInterrupt: the user ended it; the study can be resumed.
    """
    home = home_of(queue.directory, queue.config)
    storage = ray_path(queue.directory)
    shutil.rmtree(storage, ignore_errors=True)  # of earlier launches; nobody reads it
    searcher = QueueSearcher(queue, limit, progress, on_finished)
    launch = Launch(queue.config, queue.directory)
    trainable = tune.with_resources(
        tune.with_parameters(run_on_tune, launch=launch), _resources_of_trial(queue.config.training, home is not None)
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=queue.num_left,
            reuse_actors=True,
            trial_name_creator=_key_of,
            trial_dirname_creator=_key_of,
        ),
        run_config=tune.RunConfig(
            name=time.strftime("%Y%m%d-%H%M%S"),
            storage_path=str(storage),
            failure_config=tune.FailureConfig(max_failures=queue.config.training.max_failures),
            stop=_StopWhen(searcher),
            verbose=0,
        ),
    )
    tuner.fit()
    if searcher.refusal is not None:
        raise searcher.refusal
    if searcher.interrupted or queue.num_left:
        raise KeyboardInterrupt


def run_on_tune(settings: dict[str, Any], launch: Launch) -> None:
    """One run in a process of Ray Tune."""
    from ray.train import TrainingFailedError

    request = TrialRequest(**json.loads(settings["request"]))
    directory = trial_path(launch.directory, request.key)
    config = launch.experiment
    try:
        config = request.config(launch.experiment)
        if not _has_ended(read_record_of(launch.directory, request.key)):  # Tune tries a failed run again
            _run(launch, config, directory, request)
    except SeekrTuneError as error:
        if type(error).__name__ in _REFUSALS:
            tune.report({"refusal": type(error).__name__, "message": str(error)})
        else:
            run_failed(directory, config, request, error)
    except TrainingFailedError as error:
        run_failed(directory, config, request, error)
    except Exception as error:  # a fault of ours: this process may be unfit for another trial, so let Tune end it
        run_failed(directory, config, request, error)
        raise
    tune.report({"ended": True})  # Tune prints a line of its own for a trial that never reported


def _run(launch: Launch, config: Config, directory: Path, request: TrialRequest) -> None:
    from seekr_tune.study.trial import run_as_rank, run_in_group
    from seekr_tune.training.strategy import local_workers

    trial_id = tune.get_context().get_trial_id()
    if config.training.workers == 0:
        workers = local_workers(config)
        run_as_rank(workers, _report, config=config, directory=directory, request=request, ray_trial_id=trial_id)
        return
    from ray.tune.integration.ray_train import TuneReportCallback

    forward = TuneReportCallback()  # type: ignore[no-untyped-call]
    home = known_home(launch.directory)
    run_in_group(config, directory, request, home=home, ray_trial_id=trial_id, callbacks=[forward])


def _report(metrics: Mapping[str, Any]) -> None:
    tune.report(dict(metrics))


class QueueSearcher(Searcher):
    """The queue as Ray Tune wants to see it.

    Args:
        queue: of the study.
        limit: runs at the same time.
        progress: where to show them.
        on_finished: called after each finished run.
    """

    def __init__(
        self, queue: TrialQueue, limit: int, progress: ProgressConsole, on_finished: Callable[[], None]
    ) -> None:
        super().__init__()
        self._queue, self._limit, self._progress, self._on_finished = queue, limit, progress, on_finished
        self._live: dict[str, TrialRequest] = {}
        self.refusal: UserError | None = None

    @property
    def interrupted(self) -> bool:
        """Whether a run that was handed out has not ended."""
        return bool(self._live)

    def suggest(self, trial_id: str) -> Any:
        if len(self._live) >= self._limit or self.refusal:
            return None
        request = self._queue.next()
        if request is None:
            return Searcher.FINISHED
        self._live[trial_id] = request
        self._queue.link(request, trial_id)
        return {"request": json.dumps(asdict(request))}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "refusal" in result:
            self.refusal = _REFUSALS[result["refusal"]](result["message"])
        elif "tasks_done" in result:
            self._progress.task_finished(TaskProgress(**{name: result[name] for name in _PROGRESS}))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        request = self._live[trial_id]
        record = self._queue.record(request.key)
        if error and not _has_ended(record):
            lost = "its process was lost more often than training.max_failures allows"
            directory = trial_path(self._queue.directory, request.key)
            record = run_failed(directory, request.config(self._queue.config), request, lost)
        if record is None or not _has_ended(record):  # the launch ends before the run: it is handed out again
            return
        del self._live[trial_id]
        self._queue.finish(request)
        self._progress.run_finished(record)
        self._on_finished()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its settings; nobody reads them again


class _StopWhen(tune.Stopper):
    """Ends the launch as soon as a run was refused."""

    def __init__(self, searcher: QueueSearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._searcher.refusal is not None


_PROGRESS = tuple(TaskProgress.__dataclass_fields__)


def _has_ended(record: TrialRecord | None) -> bool:
    return record is not None and record.status in ("finished", "failed")


def _key_of(trial: Any) -> str:
    return str(json.loads(trial.config["request"])["key"])


def _resources_of_trial(training: TrainingConfig, stays_here: bool) -> Any:
    if training.workers == 0:
        return tune.PlacementGroupFactory([dict(training.resources_per_worker)])
    # The worker group has resources of its own, outside the trial's. Where its workers do not see the study's
    # directory, the trial itself must.
    return {"cpu": 0, this_node() if stays_here else HEAD_NODE: 0.001}
