"""One run: a stream learned in order, its results on disk after every task.

The run's directory is the truth. Calling `run_trial` again on it, in whatever process, goes on behind the last
finished task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from transformers.utils import logging as transformers_logging

from seekr_tune.checkpoint.keeper import Room
from seekr_tune.config import Config, Split
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import TaskStream
from seekr_tune.errors import CheckpointError, StudyError, UserError
from seekr_tune.loop.loop import StreamRun
from seekr_tune.loop.throughput import give_back_memory
from seekr_tune.methods.workers import SingleProcess, Workers
from seekr_tune.models.converter import converter_of
from seekr_tune.models.loading import LoadedModel, load_model
from seekr_tune.records import TrialRecord
from seekr_tune.study.runs import events
from seekr_tune.study.runs.bounds import find_bound, keep_bound, taken_over
from seekr_tune.study.runs.cache_keys import bound_directory, shared_directories
from seekr_tune.study.runs.constants import constants_of
from seekr_tune.study.runs.objectives import Objective, own_objectives, with_objectives
from seekr_tune.study.runs.outcome import new_record, prospect_rows, step_rows, with_state
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.run_directory import TrialFiles

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
    cache: Path | None = None,
    stops: Callable[[TrialRecord], bool] | None = None,
    stop_asked: Callable[[], bool] | None = None,
) -> TrialRecord:
    """Learn the stream of `config` from where `directory` stands; every rank of `workers` calls this.

    A run that is asked to stop is returned as `running`, with its steps saved. One that was pruned is returned as it
    is, until somebody revives it.

    Args:
        config: the experiment as this run sees it.
        directory: the run's own directory, absolute; made if need be.
        request: what the run is called, and why it is run.
        workers: the processes that share the run.
        ray_trial_id: id of the Ray Tune trial, for the ledger.
        on_task: called on every rank with the record after every finished task.
        files: what rank 0 writes into the directory; None: the usual ones.
        room: where checkpoints are kept; None: in the directory.
        cache: directory of first stages and bounds that runs share; None shares nothing.
        stops: asked on rank 0 after every task but the last, unless the run was revived: whether to prune it.
        stop_asked: asked on rank 0 between steps and tasks: whether to save what is done, and end.

    Raises:
        StudyError: another process runs it, the directory belongs to other settings, or a checkpoint cannot be written
            (a full disk).
        UserError: the data, the model or the settings cannot be used.
    """
    workers = workers or SingleProcess()
    files = files or TrialFiles(directory, config)
    with _opened_for_all(files, workers) as earlier, _no_fault_of_the_run(request):
        if earlier is not None and earlier.status in ("finished", "pruned"):
            return earlier
        clock = _Clock(earlier.wall_seconds if earlier else 0.0)
        record = new_record(config, request, ray_trial_id)
        record = record.model_copy(update={"revived": earlier is not None and earlier.revived})
        events.run_started(record, config, workers)
        own = own_objectives(config)
        stream = _on_every_rank(workers, lambda: _load_stream(config))
        bound = _place_of_bound(cache, config, request, stream, workers)
        if bound is not None and (earlier is None or earlier.tasks_done == 0):
            known = workers.broadcast(lambda: _take_over(bound, files, config, request, ray_trial_id, own))
            if known is not None:
                if on_task:
                    on_task(known)
                return known
        give_back_memory()
        loaded = _on_every_rank(workers, lambda: _load_model(config, workers))
        shared = workers.broadcast(lambda: shared_directories(cache, config, stream, workers)) if cache else None
        constants = constants_of(config, stream, cache, workers)
        run = StreamRun(
            config,
            stream,
            loaded,
            directory=directory,
            workers=workers,
            room=room,
            shared=shared,
            stop_asked=stop_asked,
            constants=constants,
        )
        prospects = run.prospects()
        events.prospects(prospects)
        record = record.model_copy(update={"prospects": prospect_rows(record.tasks, prospects)})
        stops = None if record.revived else stops
        record = _learn(run, record, files, workers, clock, on_task, stops, own)
        if bound is not None and record.status == "finished" and workers.rank == 0:
            keep_bound(bound, record, files.steps())
        events.run_ended(record, run.stopped)
        record = files.end(record) if workers.rank == 0 else record.model_copy(update={"heads": ()})
        if on_task and record.status == "finished":
            on_task(record)
        return record


def _learn(
    run: StreamRun,
    record: TrialRecord,
    files: TrialFiles,
    workers: Workers,
    clock: _Clock,
    on_task: OnTask | None,
    stops: Callable[[TrialRecord], bool] | None,
    own: Mapping[str, Objective],
) -> TrialRecord:
    """Learn what is left; the record of how it ends is returned, and not written yet."""

    def is_hopeless(now: TrialRecord) -> bool:
        may_stop = stops is not None and 0 < now.tasks_done < len(now.tasks)
        return may_stop and workers.broadcast(lambda: bool(stops and stops(now)))

    if run.state is not None:
        record = with_objectives(with_state(record, run.state, clock.seconds()), own)
        events.run_resumed(record, len(run.unfinished))
    on_step = files.start(record, run.unfinished) if workers.rank == 0 else None
    # One that was killed just after a task has not been judged there; one with steps behind it has.
    pruned = not run.unfinished and is_hopeless(record)
    with closing(run.outcomes(on_step)) as outcomes:
        while not pruned and (outcome := next(outcomes, None)) is not None:
            record = with_objectives(with_state(record, outcome.state, clock.seconds()), own)
            if workers.rank == 0:
                files.finish_task(record, list(step_rows(outcome.steps)))
            events.task_finished(outcome, record)
            if on_task and record.status != "finished":
                on_task(record)
            pruned = is_hopeless(record)
    if pruned or run.stopped:
        status = "pruned" if pruned else "running"
        record = record.model_copy(update={"status": status, "wall_seconds": clock.seconds()})
    return record


def _place_of_bound(
    cache: Path | None, config: Config, request: TrialRequest, stream: TaskStream, workers: Workers
) -> Path | None:
    """Where a reference is kept for other studies; None for other runs."""
    if cache is None or request.role != "bound":
        return None
    return workers.broadcast(lambda: bound_directory(cache, config, stream, workers))


def _take_over(
    place: Path,
    files: TrialFiles,
    config: Config,
    request: TrialRequest,
    ray_trial_id: str | None,
    own: Mapping[str, Objective],
) -> TrialRecord | None:
    """The results of a reference that another study has run; None if none has."""
    found = find_bound(place)
    if found is None:
        return None
    known, steps = found
    record = with_objectives(taken_over(known, config, request, ray_trial_id), own)
    files.take_over(record, steps)
    events.results_taken_over(record, place)
    files.end(record)
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
def opened(files: TrialFiles) -> Iterator[TrialRecord | None]:
    """Hold a run's directory for the time of the block; what was recorded there."""
    with _opened_for_all(files, SingleProcess()) as earlier:
        yield earlier


@contextmanager
def _opened_for_all(files: TrialFiles, workers: Workers) -> Iterator[TrialRecord | None]:
    """Hold the run's directory on rank 0; every rank gets what was recorded there."""
    try:
        earlier = workers.broadcast(files.open)
        try:
            yield earlier
        except Exception as error:
            events.attempt_failed(error)
            files.require_there()  # else what failed for that would be said instead
            raise
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


def _load_stream(config: Config) -> TaskStream:
    splits: tuple[Split, ...] = ("train", *config.evaluation.splits)
    return load_stream(config, splits)


def _load_model(config: Config, workers: Workers) -> LoadedModel:
    # One bar for every model that is loaded would tear the lines of ours.
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(config.seed)  # adapters start from random weights, also in a process that ran a trial before
    # FSDP moves a layer to the device when it has cut it: a whole model need not fit there.
    is_cut = config.training.parallelism == "fsdp" and workers.world_size > 1
    device = torch.device("cpu") if is_cut else workers.device
    # Before anything is cut, and on one rank: what it refuses is refused on all (`_on_every_rank`).
    return load_model(config.model, device, compare=workers.rank == 0, convert=converter_of(config))


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
