"""Saves a run, and finds where it stood: between tasks, and inside one while training goes on."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from seekr_tune.checkpoint.codec import (
    decode_state,
    decode_steps,
    encode_state,
    encode_steps,
    head_tensors,
    method_tensors,
    sample_tensors,
    signal_tensors,
    split_method,
)
from seekr_tune.checkpoint.directories import (
    Position,
    base_digest,
    newest_intact,
    part_names,
    read_document,
)
from seekr_tune.checkpoint.state import LearnerState, Progress, StepRecord, StreamState
from seekr_tune.checkpoint.tensorfiles import (
    Files,
    model_files,
    read_gradients,
    read_learner,
    read_signals,
    require_weights,
    restore_weights,
    tensor_file,
)
from seekr_tune.checkpoint.writing import WritingRoom, write_share
from seekr_tune.errors import CheckpointError, UserError
from seekr_tune.methods.workers import Workers

T = TypeVar("T")
_NOT_AS_WRITTEN = (SafetensorError, ValueError, LookupError, TypeError, AttributeError)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """Where a run stood.

    Attributes:
        state: of the stream; in its memory stand the teacher signals of this rank's samples only.
        learner: when the last task ended.
        unfinished: steps that were saved of the stage behind it.
    """

    state: StreamState
    learner: LearnerState
    unfinished: tuple[StepRecord, ...]


class HalfRestored(CheckpointError):
    """Reading failed while weights were overwritten: this process must not learn with them."""


class Room(Protocol):
    """Where checkpoints are written and found. Every rank has one; it belongs to one launch."""

    @property
    def directory(self) -> Path:
        """Where `newest` finds them; on rank 0 the manifests of saved stages stand there, too."""

    def newest(self) -> tuple[Path | None, Path | None]:
        """What `newest_intact` says, as directories that this rank can read; all ranks call it together."""

    def begin(self, position: Position) -> Path:
        """The directory that this rank writes its share into; all ranks call it together."""

    def write(self, place: Path, files: Files, kept: int) -> None:
        """Write this rank's share, and let the checkpoint appear when all are there.

        Args:
            place: what `begin` returned.
            files: what writes each file of this rank, by name.
            kept: newest checkpoints to keep.

        Raises:
            CheckpointError: it does not appear, or another launch took over.
        """

    def leave(self) -> None:
        """Remove what is half written; nothing is written any more. Ranks need not call this together."""


class CheckpointKeeper:
    """The checkpoints of a run; every rank has one and makes the same calls.

    What one strategy and number of workers saved, any other can restore. All that is read is found whole on all ranks
    before a weight of any of them is overwritten, and an error of one rank is raised on all. From the moment it is
    made, this launch owns the directory: whatever an earlier one still writes will not appear in it.

    Args:
        directory: the run's `checkpoints`; made if need be.
        workers: the processes that share the run.
        kept: newest checkpoints to keep, of finished tasks and (besides) of the task that is being learned.
        room: where checkpoints are written and found, for ranks that share no directory; None: in `directory`.
    """

    def __init__(self, directory: Path, workers: Workers, kept: int, room: Room | None = None) -> None:
        self._directory = room.directory if room else directory
        self._workers = workers
        self._kept = kept
        self._room: Room = room or _SharedRoom(directory, workers)
        self._steps: Path | None = None
        self._writing: _Writing | None = None

    def restore_stage(self, parameters: Mapping[str, nn.Parameter]) -> Restored | None:
        """Take up the newest intact checkpoint of finished tasks; None where there is none.

        Args:
            parameters: trained parameters by name; overwritten in place, if the checkpoint has weights.

        Raises:
            CheckpointError: the checkpoint is of a model with other parameters, or holds something else; the parameters
                are as they were.
            HalfRestored: they are not.
        """
        stage, self._steps = self._room.newest()
        if stage is None:
            return None
        steps = self._steps
        unfinished = self._on_all_ranks(steps, lambda: _steps_of(steps)) if steps else ()
        restored, weights = self._on_all_ranks(stage, lambda: self._read_stage(stage, parameters, unfinished))
        self._overwrite(stage, weights, parameters)
        return restored

    def _read_stage(
        self, stage: Path, parameters: Mapping[str, nn.Parameter], unfinished: tuple[StepRecord, ...]
    ) -> tuple[Restored, list[Path]]:
        """All but the weights, and the files that hold these."""
        document = read_document(stage)
        learner, weights = self._read_model(stage, document, parameters)
        rank, world_size = self._workers.rank, self._workers.world_size
        own = {i for i, sample in enumerate(document["memory"]) if sample["shard"] % world_size == rank}
        signals = read_signals(_part_paths(stage, document, "memory"), own)
        heads, samples = (load_file(stage / f"{name}.safetensors") for name in ("heads", "samples"))
        learner, of_methods = split_method(learner)
        return Restored(decode_state(document, heads, samples, signals, of_methods), learner, unfinished), weights

    def restore_steps(self, parameters: Mapping[str, nn.Parameter], allowed: range | None = None) -> Progress | None:
        """Take up the stage behind the restored one where it was left; None where none of its steps were saved.

        Comes after `restore_stage`, and gives what it found only once: the stages behind begin at their beginning.

        Args:
            parameters: as for `restore_stage`.
            allowed: how many steps may be done, up to those of the whole stage; None: any number.

        Raises:
            CheckpointError, HalfRestored: as `restore_stage` does; also if another number of steps is done.
        """
        found, self._steps = self._steps, None
        if found is None:
            return None
        progress, weights = self._on_all_ranks(found, lambda: self._read_steps(found, parameters, allowed))
        self._overwrite(found, weights, parameters)
        return progress

    def _read_steps(
        self, path: Path, parameters: Mapping[str, nn.Parameter], allowed: range | None
    ) -> tuple[Progress, list[Path]]:
        """All but the weights, and the files that hold these."""
        steps = _steps_of(path)
        if allowed is not None and len(steps) not in allowed:
            said = f"holds {len(steps)} steps of a stage that has {allowed[-1]}"
            raise CheckpointError(f"{path}: {said}; remove it to go on without")
        learner, weights = self._read_model(path, read_document(path), parameters)
        return Progress(steps, learner), weights

    def save_stage(self, state: StreamState, parameters: Mapping[str, Tensor] | None, learner: LearnerState) -> None:
        """Save what finished tasks leave; on return it is on disk, for every rank.

        Args:
            state: the stream's state, with the teacher signals that this rank holds.
            parameters: trained parameters by name; None before the first task, when they are as they were loaded.
            learner: the learner's state.

        Raises:
            CheckpointError: this save or the one before could not be written.
        """
        self.settle()
        rank, world_size = self._workers.rank, self._workers.world_size
        tensors = {**learner.tensors, **method_tensors(state.method, parameters or {})}
        files, parts = model_files(parameters or {}, tensors, rank, world_size, copy=False)
        parts["memory"] = world_size
        files[part_names("memory", world_size)[rank]] = tensor_file(signal_tensors(state.memory))
        if rank == 0:
            document = {"parts": parts, **_counters(learner), **encode_state(state)}
            files["heads.safetensors"] = tensor_file(head_tensors(state))
            files["samples.safetensors"] = tensor_file(sample_tensors(state.memory))
            files["state.json"] = partial(_write_json, document=document)
        self._write(Position(state.tasks_done), files)
        self.settle()

    def save_steps(self, tasks_done: int, progress: Progress, parameters: Mapping[str, Tensor]) -> None:
        """Save where a stage stands: copied now, written while training goes on.

        Args:
            tasks_done: tasks that were finished when the stage began; `save_stage` has saved them.
            progress: of the stage, after one step or more.
            parameters: trained parameters by name.

        Raises:
            CheckpointError: the save before could not be written.
        """
        self.settle()
        rank, world_size = self._workers.rank, self._workers.world_size
        position = Position(tasks_done, len(progress.steps))
        files, parts = model_files(parameters, progress.learner.tensors, rank, world_size, copy=True)
        # Asked on all ranks: one that finds it unreadable must not leave the others waiting in the next collective.
        base = self._workers.broadcast(lambda: _base_of(self._directory, position))
        if rank == 0:
            document = {"parts": parts, "base": base, **_counters(progress.learner)}
            files["progress.json"] = partial(_write_progress, document=document, steps=progress.steps)
        self._write(position, files)

    def settle(self) -> None:
        """Wait on every rank until what is being written is there.

        Raises:
            CheckpointError: on all ranks, if one of them could not write its share.
        """
        if self._writing is None:
            return
        name, error = self._writing.name, self._writing.error()
        self._writing = None
        failures = self._workers.gather(None if error is None else str(error))
        told = dict.fromkeys(failure for failure in failures if failure is not None)
        if told:
            raise CheckpointError(f"{self._directory / name}: could not be written ({'; '.join(told)})") from error

    def close(self) -> None:
        """Wait for what is being written; nothing can be saved afterwards.

        Ranks need not call this together: after an error, others may be gone.
        """
        error = None if self._writing is None else self._writing.error()
        if error is not None:
            _logger.warning("%s: the last save could not be written (%s)", self._directory, error)
        self._writing = None
        self._room.leave()

    def _write(self, position: Position, files: Files) -> None:
        """Begin to write this rank's share of a checkpoint; rank 0 lets it appear when all shares are there."""
        place = self._room.begin(position)
        self._writing = _Writing(place.name, lambda: self._room.write(place, files, self._kept))

    def _on_all_ranks(self, path: Path, read: Callable[[], T]) -> T:
        """What this rank reads of a checkpoint, if all of them could: no rank goes on alone.

        Raises:
            CheckpointError: on all ranks, if one of them could not.
        """
        made: list[T] = []
        failure: Exception | None = None
        try:
            with _as_written(path):
                made.append(read())
        except CheckpointError as error:
            failure = error
        except OSError as error:
            failure = CheckpointError(f"{path}: cannot be read ({error})")
        told = dict.fromkeys(said for said in self._workers.gather(failure and str(failure)) if said)
        if told:
            raise CheckpointError("; ".join(told)) from failure
        return made[0]

    def _overwrite(self, path: Path, weights: Sequence[Path], parameters: Mapping[str, nn.Parameter]) -> None:
        """The last act of a restoration: nothing but a disk that fails meanwhile can stop it half-way."""
        try:
            self._on_all_ranks(path, lambda: restore_weights(weights, parameters) if weights else None)
        except CheckpointError as error:
            raise HalfRestored(f"{error}; its weights are taken up in part") from error

    def _read_model(
        self, path: Path, document: Mapping[str, Any], parameters: Mapping[str, nn.Parameter]
    ) -> tuple[LearnerState, list[Path]]:
        """The learner, and the files of the weights, which are whole; none before anything was learned."""
        begun = parameters and Position.of(path) != Position(0)
        weights = require_weights(path, document["parts"]["weights"], parameters) if begun else []
        gradients, optimizer = _part_paths(path, document, "gradients"), document.get("optimizer", {})
        tensors = {
            **read_learner(_part_paths(path, document, "learner"), parameters, optimizer.get("tensors")),
            **read_gradients(gradients, parameters, self._workers.rank, self._workers.world_size),
        }
        return LearnerState(tensors, document["pending_steps"], document["updates"], optimizer), weights


class _SharedRoom:
    """A directory that all ranks see."""

    def __init__(self, directory: Path, workers: Workers) -> None:
        self.directory, self._workers = directory, workers
        self._room = workers.broadcast(lambda: WritingRoom.take_over(directory))

    def newest(self) -> tuple[Path | None, Path | None]:
        return self._workers.broadcast(lambda: newest_intact(self.directory))

    def begin(self, position: Position) -> Path:
        return self._workers.broadcast(lambda: self._room.begin(position))

    def write(self, place: Path, files: Files, kept: int) -> None:
        write_share(place, self._workers.rank, files)
        if self._workers.rank == 0:
            self._room.commit(place, self._workers.world_size, kept)

    def leave(self) -> None:
        if self._workers.rank == 0:
            self._room.leave()


class _Writing:
    """A save in a thread of its own.

    A daemon thread: a process that ends on an error must not wait for ranks that are gone.
    """

    def __init__(self, name: str, write: Callable[[], None]) -> None:
        self.name = name
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, args=(write,), name=f"checkpoint {name}", daemon=True)
        self._thread.start()

    def error(self) -> BaseException | None:
        """Wait for the end; what went wrong, or None."""
        self._thread.join()
        return self._error

    def _run(self, write: Callable[[], None]) -> None:
        began = time.monotonic()
        try:
            write()
            fields = {"checkpoint": self.name, "seconds": round(time.monotonic() - began, 3)}
            _logger.info("checkpoint written", extra={"fields": fields})
        except BaseException as error:  # whatever ended the thread, nothing was saved
            self._error = error


@contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """What a manifest vouches for, and what still cannot be taken up, is somebody else's work."""
    try:
        yield
    except _NOT_AS_WRITTEN as error:
        said = f"does not hold tensors and a state ({type(error).__name__}: {error})"
        raise CheckpointError(f"{path}: {' '.join(said.split())[:250]}; remove it to go on without") from None


def _steps_of(path: Path) -> tuple[StepRecord, ...]:
    return decode_steps(read_document(path)["steps"])


def _base_of(directory: Path, position: Position) -> str:
    try:
        return base_digest(directory, position)
    except (OSError, UserError) as error:
        raise CheckpointError(f"{directory / position.name}: builds on what cannot be read ({error})") from None


def _part_paths(path: Path, document: Mapping[str, Any], kind: str) -> list[Path]:
    return [path / name for name in part_names(kind, document["parts"][kind])]


def _counters(learner: LearnerState) -> dict[str, Any]:
    return {"pending_steps": learner.pending_steps, "updates": learner.updates, "optimizer": dict(learner.optimizer)}


def _write_progress(path: Path, document: Mapping[str, Any], steps: Sequence[StepRecord]) -> None:
    _write_json(path, {**document, "steps": encode_steps(steps)})


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")
