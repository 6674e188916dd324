"""Running a queue of runs on Ray Tune.

Tune decides where and when a run starts; what runs next and what became of it stand in the queue and in the runs' own
directories. Tune's experiment state is thrown away: a resumed study is a new Tuner over the same queue.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from seekr_tune.cluster.session import HEAD_NODE, this_node
from seekr_tune.config import Config, TrainingConfig
from seekr_tune.documents import parse_json
from seekr_tune.errors import SeekrTuneError, StudyError
from seekr_tune.foreign_text import ours
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.disk import disk_fault, disk_refusal
from seekr_tune.study.directory.layout import ray_path, trial_path
from seekr_tune.study.life.searcher import REFUSALS, QueueSearcher, RunQueue, StopWhen, has_ended
from seekr_tune.study.life.stopping import StopFile
from seekr_tune.study.runs.console import ProgressConsole
from seekr_tune.study.runs.outcome import read_record_of, run_failed
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.storage import home_of, known_home


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
    queue: RunQueue,
    launch: Launch,
    limit: int,
    progress: ProgressConsole,
    on_finished: Callable[[], None],
    require_there: Callable[[], None],
) -> None:
    """Run what is left in the queue, until it is done or somebody asks to stop. Needs a Ray session.

    Args:
        queue: the runs.
        launch: what each of them is told.
        limit: runs at the same time.
        progress: where to show them.
        on_finished: called after each run that has ended.
        require_there: raises a `StudyError` where the study was moved or deleted; asked all the time.

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
            stop=StopWhen(searcher, require_there),
            verbose=0,
        ),
    )
    tuner.fit()
    if searcher.error is not None:
        raise searcher.error


def run_on_tune(settings: dict[str, Any], launch: Launch) -> None:
    """One run in a process of Ray Tune."""
    from ray.train import TrainingFailedError

    request = TrialRequest(**parse_json(settings["request"]))
    directory = trial_path(launch.directory, request.key)
    config = launch.experiment
    try:
        config = request.config(launch.experiment)
        if not has_ended(read_record_of(launch.directory, request.key)):  # Tune tries a failed run again
            _run(launch, config, directory, request)
    except Exception as error:
        if type(error).__name__ in REFUSALS:
            _refuse(error)
            return
        if not launch.stop.path.parent.is_dir():  # nowhere to write that it failed; the driver says it in full
            _refuse(StudyError(f"{launch.directory}: was moved or deleted"))
            return
        is_told = isinstance(error, SeekrTuneError | TrainingFailedError)
        fault = None if is_told else disk_fault(error)
        if fault is not None:  # not the run's, which might have nowhere to write that it failed
            _refuse(disk_refusal(directory, fault, f"go on with `{ours('resume', launch.directory)}`"))
            return
        run_failed(directory, config, request, error)
        if not is_told:
            raise  # a fault of ours: this process may be unfit for another trial, so let Tune end it
    tune.report({"ended": True})  # Tune prints a line of its own for a trial that never reported


def _refuse(error: Exception) -> None:
    tune.report({"refusal": type(error).__name__, "message": str(error)})


def _run(launch: Launch, config: Config, directory: Path, request: TrialRequest) -> None:
    from seekr_tune.cluster.strategy import local_workers
    from seekr_tune.study.runs.group import run_as_rank, run_in_group

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


def _key_of(trial: Any) -> str:
    return str(parse_json(trial.config["request"])["key"])


def _resources_of_trial(training: TrainingConfig, stays_here: bool) -> Any:
    if training.workers == 0:
        return tune.PlacementGroupFactory([dict(training.resources_per_worker)])
    # The worker group has resources of its own, outside the trial's. Where its workers do not see the study's
    # directory, the trial itself must.
    return {"cpu": 0, this_node() if stays_here else HEAD_NODE: 0.001}
