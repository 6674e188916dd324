"""One run: a stream learned in order, its results on disk after every task.

The run's directory is the truth. Calling `run_trial` again on it, in whatever process, goes on behind the last
finished task.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from rich.console import Console
from transformers.utils import logging as transformers_logging

from seekr_tune.analysis.ledger import write_ledger
from seekr_tune.analysis.record import TrialRecord, read_record, read_steps
from seekr_tune.config import Config, Split
from seekr_tune.errors import CheckpointError, StudyError, UserError
from seekr_tune.sequence.keeper import Room
from seekr_tune.sequence.loop import StreamRun
from seekr_tune.sequence.model import LoadedModel, load_model
from seekr_tune.sequence.workers import SingleProcess, Workers
from seekr_tune.stream.sources import load_stream
from seekr_tune.stream.task import TaskStream
from seekr_tune.study.console import ProgressConsole, TaskProgress
from seekr_tune.study.files import TrialFiles
from seekr_tune.study.layout import is_study, ray_path, storage_path
from seekr_tune.study.outcome import new_record, run_failed, step_rows, with_state
from seekr_tune.study.request import TrialRequest
from seekr_tune.study.watch import watched
from seekr_tune.training.session import cluster_session
from seekr_tune.training.strategy import local_workers

if TYPE_CHECKING:  # a run in this process needs neither
    from ray.train import UserCallback

    from seekr_tune.store import Store

OnTask = Callable[[TrialRecord], None]
T = TypeVar("T")


def run_trial(
    config: Config,
    directory: Path,
    request: TrialRequest,
    *,
    workers: Workers | None = None,
    ray_trial_id: str | None = None,
    on_task: OnTask | None = None,
    files: TrialFiles | None = None,
    room: Room | None = None,
) -> TrialRecord:
    """Learn the stream of `config` from where `directory` stands; every rank of `workers` calls this.

    Args:
        config: the experiment as this run sees it.
        directory: the run's own directory, absolute; made if need be.
        request: what the run is called, and why it is run.
        workers: the processes that share the run.
        ray_trial_id: id of the Ray Tune trial, for the ledger.
        on_task: called on every rank with the record after every finished task.
        files: what rank 0 writes into the directory; None: the usual ones.
        room: where checkpoints are kept; None: in the directory.

    Raises:
        StudyError: another process runs it, the directory belongs to other settings, or a checkpoint cannot be written
            (a full disk).
        UserError: the data, the model or the settings cannot be used.
    """
    workers = workers or SingleProcess()
    files = files or TrialFiles(directory, config)
    with _opened(files, workers) as earlier, _no_fault_of_the_run(request):
        if earlier is not None and earlier.status == "finished":
            return earlier
        clock = _Clock(earlier.wall_seconds if earlier else 0.0)
        record = new_record(config, request, ray_trial_id)
        stream, loaded = _on_every_rank(workers, lambda: _load(config, workers))
        run = StreamRun(config, stream, loaded, directory=directory, workers=workers, room=room)
        if run.state is not None:
            record = with_state(record, run.state, clock.seconds())
        on_step = files.start(record, run.unfinished) if workers.rank == 0 else None
        for outcome in run.outcomes(on_step):
            record = with_state(record, outcome.state, clock.seconds())
            if workers.rank == 0:
                files.finish_task(record, list(step_rows(outcome.steps)))
            if on_task:
                on_task(record)
        return record


def run_experiment(
    config: Config,
    directory: Path | str,
    *,
    name: str | None = None,
    address: str | None = None,
    console: Console | None = None,
) -> TrialRecord:
    """One run of an experiment, without a search; called again on the same directory it goes on.

    With `training.workers: 0` it runs in this process, without Ray.

    Args:
        config: the experiment.
        directory: the run's directory; gets a ledger of its own.
        name: of the run in its ledger; None: that of the directory.
        address: of a running Ray cluster, HOST:PORT or `auto`; None: this machine.
        console: where to show progress.

    Raises:
        StudyError: the directory holds a study or a run of other settings, the machine is too small, or there is no
            cluster at the address.
        UserError: the data, the model or the settings cannot be used.
    """
    directory = Path(directory).absolute()
    if address is not None and config.training.workers == 0:
        raise StudyError(
            f"address {address!r}: with training.workers 0 the run would stay in this process and use nothing of the "
            "cluster; set training.workers to 1 or more, or leave the address out"
        )
    if is_study(directory):
        raise StudyError(f"{directory}: holds a study; go on with `seekr-tune resume {directory}`, or choose another")
    request = TrialRequest(key=name or directory.name, role="run")
    with cluster_session(address), ProgressConsole(console, total=1) as progress:
        try:
            record = _run(config, directory, request, progress)
        except UserError:
            raise
        except Exception as error:
            run_failed(directory, config, request, error)
            raise
        progress.run_finished(record)
    write_ledger(directory, [record], {record.trial: read_steps(directory / "steps.jsonl")})
    return record


@dataclass
class _Clock:
    """Time that a run took, over all of its launches."""

    earlier: float

    def __post_init__(self) -> None:
        self._started = time.monotonic()

    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self._started


@contextmanager
def _opened(files: TrialFiles, workers: Workers) -> Iterator[TrialRecord | None]:
    """Hold the run's directory on rank 0; every rank gets what was recorded there."""
    try:
        yield workers.broadcast(files.open)
    finally:
        files.close()


@contextmanager
def _no_fault_of_the_run(request: TrialRequest) -> Iterator[None]:
    """Checkpoints that cannot be written must not mark a trial as failed: it can go on when that is mended."""
    try:
        yield
    except CheckpointError as error:
        mend = "mend that, and the run goes on when the command is given again"
        raise StudyError(f"{request.key}: {error}; {mend}") from None


def _load(config: Config, workers: Workers) -> tuple[TaskStream, LoadedModel]:
    splits: tuple[Split, ...] = ("train", *config.evaluation.splits)
    stream = load_stream(config, splits)
    # One bar for every model that is loaded would tear the lines of ours.
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(config.seed)  # adapters start from random weights, also in a process that ran a trial before
    # FSDP moves a layer to the device when it has cut it: a whole model need not fit there.
    is_cut = config.training.parallelism == "fsdp" and workers.world_size > 1
    device = torch.device("cpu") if is_cut else workers.device
    return stream, load_model(config.model, device)


def _on_every_rank(workers: Workers, make: Callable[[], T]) -> T:
    """`make()`, refused on every rank if one rank refuses: the others would wait for it in the first collective."""
    refusal: UserError | None = None
    try:
        made = make()
    except UserError as error:
        refusal = error
    for refused in workers.gather(refusal):
        if refused is not None:
            raise refused
    return made


def _run(config: Config, directory: Path, request: TrialRequest, progress: ProgressConsole) -> TrialRecord:
    def show(record: TrialRecord) -> None:
        progress.task_finished(TaskProgress.of(record))

    if config.training.workers == 0:
        return run_trial(config, directory, request, workers=local_workers(config), on_task=show)
    with _opened(TrialFiles(directory, config), SingleProcess()) as earlier:  # before Ray is started for nothing
        if earlier is not None and earlier.status == "finished":
            return earlier
        home = _home(directory, config)
    from seekr_tune.training.session import ray_session, trials_at_once

    shutil.rmtree(ray_path(directory), ignore_errors=True)  # of earlier launches; nobody reads it
    with ray_session(), watched(directory / "result.json", show):
        trials_at_once(config.training)
        run_in_group(config, directory, request, home=home)
    return read_record(directory / "result.json")


def _home(directory: Path, config: Config) -> Store | None:
    """Where the run stands at the store, if there is one."""
    if config.training.storage_path is None and not storage_path(directory).is_file():
        return None
    from seekr_tune.study.storage import home_of

    return home_of(directory, config)


def run_in_group(
    config: Config,
    directory: Path,
    request: TrialRequest,
    *,
    home: Store | None = None,
    ray_trial_id: str | None = None,
    callbacks: Sequence[UserCallback] = (),
) -> None:
    """`run_trial` in a worker group; what it leaves is then in `directory`. Needs a Ray session.

    Args:
        config, directory, request, ray_trial_id: see `run_trial`.
        home: of the study or run at the store, for workers that do not see the directory.
        callbacks: see what the group reports.
    """
    from seekr_tune.training.trainer import run_in_workers

    work = partial(run_as_rank, config=config, directory=directory, request=request, ray_trial_id=ray_trial_id)
    if home is None:
        run_in_workers(work, config, ray_path(directory), request.key, callbacks)
        return
    from seekr_tune.study.storage import Mirror

    place = home.at(request.key)
    with _opened(TrialFiles(directory, config), SingleProcess()):
        mirror = Mirror(place, directory)
        if mirror.begin():
            try:
                with mirror.following():
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
) -> None:
    """`run_trial` as one rank of a worker group, reporting each finished task.

    Args:
        place: of the run at the store; the directory is then not touched.
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
        run(directory)
        return
    from seekr_tune.study.remote import scratch_of

    with scratch_of(place, config, workers) as scratch:
        run(scratch.directory, files=scratch.files, room=scratch.room)
