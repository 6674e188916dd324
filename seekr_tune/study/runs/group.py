"""One run in a group of Ray's workers, over a shared disk or over a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seekr_tune.config import Config
from seekr_tune.errors import CheckpointError, StudyError
from seekr_tune.methods.workers import Workers
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.layout import ray_path
from seekr_tune.study.runs.console import TaskProgress
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.run_directory import TrialFiles
from seekr_tune.study.runs.trial import opened, run_trial

if TYPE_CHECKING:  # a run in this process needs neither
    from ray.train import UserCallback

    from seekr_tune.store import Store


def run_in_group(
    config: Config,
    directory: Path,
    request: TrialRequest,
    *,
    home: Store | None = None,
    ray_trial_id: str | None = None,
    callbacks: Sequence[UserCallback] = (),
    cache: Path | None = None,
    stops: Callable[[TrialRecord], bool] | None = None,
    stop_asked: Callable[[], bool] | None = None,
) -> None:
    """`run_trial` in a worker group; what it leaves is then in `directory`. Needs a Ray session.

    Args:
        config, directory, request, ray_trial_id: see `run_trial`.
        cache, stops, stop_asked: see `run_trial`; they travel to the workers, so they must be picklable.
        home: of the study or run at the store, for workers that do not see the directory.
        callbacks: see what the group reports.
    """
    from seekr_tune.cluster.trainer import run_in_workers

    work = partial(run_as_rank, config=config, directory=directory, request=request, ray_trial_id=ray_trial_id)
    if home is None:
        work = partial(work, cache=cache, stops=stops, stop_asked=stop_asked)
        run_in_workers(work, config, ray_path(directory), request.key, callbacks)
        return
    from seekr_tune.study.runs.storage import Mirror

    place = home.at(request.key)
    with opened(TrialFiles(directory, config)):
        mirror = Mirror(place, directory)
        if mirror.begin():
            try:
                with mirror.following(stop_asked):
                    run_in_workers(partial(work, place=place), config, place.at("ray"), request.key, callbacks)
            except CheckpointError as error:  # no fault of the run: a trial must not be marked as failed for it
                raise StudyError(f"{place}: {error}; what was saved goes on when the command is given again") from None
        mirror.complete()


def run_as_rank(
    workers: Workers,
    report: Callable[[Mapping[str, Any]], None],
    *,
    config: Config,
    directory: Path,
    request: TrialRequest,
    ray_trial_id: str | None = None,
    place: Store | None = None,
    cache: Path | None = None,
    stops: Callable[[TrialRecord], bool] | None = None,
    stop_asked: Callable[[], bool] | None = None,
) -> None:
    """`run_trial` as one rank of a worker group, reporting each finished task.

    Args:
        place: of the run at the store; the directory is then not touched, and a request to stop comes from there.
    """
    run = partial(
        run_trial,
        config,
        request=request,
        workers=workers,
        ray_trial_id=ray_trial_id,
        on_task=lambda record: report(TaskProgress.of(record).as_metrics()),
    )
    if place is None:
        run(directory, cache=cache, stops=stops, stop_asked=stop_asked)
        return
    from seekr_tune.study.runs.remote import StopAtStore, scratch_of

    with scratch_of(place, config, workers) as scratch:
        run(scratch.directory, files=scratch.files, room=scratch.room, stop_asked=StopAtStore(place))
