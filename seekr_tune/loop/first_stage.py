"""The first stage, trained by one run for all that cannot differ in it.

Until the memory holds something, nothing about replay can change what is learned. So runs that agree in the model, the
first task, the recipe and the seed leave it with the same weights, and the same scores before and after it:

    <base>/.lock  <base>/scores/            scores of the base model
    <stage>/.lock <stage>/scores/           scores after the first stage
    <stage>/checkpoints/task-0000           an empty state, for the other one to build on
    <stage>/checkpoints/task-0000-step-N    weights and learner after all N steps, and the records of the steps

The run that comes first holds the lock, trains, and saves; those that come meanwhile wait for it. A lock goes with the
process that holds it. Checkpoints appear whole or not at all, and are verified when they are used.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from torch import nn

from seekr_tune.atomic_files import write_atomically
from seekr_tune.checkpoint.keeper import CheckpointKeeper, HalfRestored
from seekr_tune.checkpoint.state import LearnerState, Progress, StreamState
from seekr_tune.documents import read_bytes
from seekr_tune.errors import CheckpointError, UserError
from seekr_tune.loop.shared_scores import SharedScores
from seekr_tune.loop.stopping import RunStopped, StopPoll
from seekr_tune.methods.workers import Workers

_POLL_SECONDS = 0.2
_ROUND_SECONDS = 20.0
"""Ranks that wait for rank 0 hear from it this often; a collective that takes half an hour is an error."""

_UNUSABLE = (OSError, NotImplementedError, CheckpointError, UserError)
"""What must not end a run that could do without the shared directory: a full disk, one without locks."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SharedDirectories:
    """Where equal runs share their work; the names are digests of all that it depends on.

    Attributes:
        base: of the model before any training.
        stage: of the first stage.
    """

    base: Path
    stage: Path


class FirstStage:
    """What other runs have done of this run's beginning, and what this one does for them.

    Args:
        directories: where it lies; all ranks see them.
        run: directory of the run.
        workers: the processes that share the run; every rank makes the same calls.
        stop: a run that waits for another one may be asked to stop.
    """

    def __init__(self, directories: SharedDirectories, run: Path, workers: Workers, stop: StopPoll) -> None:
        self._directories, self._workers, self._stop = directories, workers, stop
        self._origin = run / "checkpoints" / ".first-stage"
        self._lock = FileLock(directories.stage / ".lock", timeout=0)
        self._keeper: CheckpointKeeper | None = None
        self.base_scores = SharedScores(directories.base / "scores", workers)
        self.scores = SharedScores(directories.stage / "scores", workers)

    @contextmanager
    def base_turn(self) -> Iterator[None]:
        """For the time of the block, no other run scores the base model."""
        lock = FileLock(self._directories.base / ".lock", timeout=0)
        try:
            self._wait_for(lock)
            yield
        finally:
            lock.release()

    def take(self, parameters: Mapping[str, nn.Parameter], num_steps: int) -> Progress | None:
        """The stage after all its steps, with its weights in `parameters`; waits while another run trains it.

        None, on all ranks: it is not there, or not whole. The parameters are then as they were; this run holds the
        lock, until `close`, and should train it.

        Args:
            parameters: trained parameters by name, overwritten in place.
            num_steps: steps of the stage.

        Raises:
            RunStopped: the run was asked to stop while it waited.
            HalfRestored: the disk failed when the stage had been found whole, and its weights were being read.
        """
        if not self._wait_for(self._lock):
            return None
        try:
            self._keeper = CheckpointKeeper(self._directories.stage / "checkpoints", self._workers, kept=1)
            if self._keeper.restore_stage(parameters) is None:
                return None
            progress = self._keeper.restore_steps(parameters, range(num_steps, num_steps + 1))
        except HalfRestored:
            raise
        except _UNUSABLE as error:
            _logger.warning("%s: cannot be taken (%s); the stage is trained here", self._directories.stage, error)
            return None
        if progress is not None:
            self.close()
        return progress

    def begin(self, *, anew: bool) -> None:
        """Note how this run trains the stage: what other workers or another version began is not for others.

        Args:
            anew: from its first step, not from a checkpoint of the run.
        """
        key = self._directories.stage.name

        def note() -> None:  # not in its place: `extend` begins an update with the same files as the run itself
            if anew:
                write_atomically(self._origin, key.encode())
            elif self._origin.is_file() and not self._is_of_this_key():
                write_atomically(self._origin, b"several")

        try:
            self._workers.broadcast(note)
        except (OSError, UserError) as error:
            self._warn(error)

    def keep(self, progress: Progress, parameters: Mapping[str, nn.Parameter], state: StreamState) -> None:
        """Save the stage for others, beside what this run does until `close`.

        Args:
            progress: all steps, and the learner when the stage has ended.
            parameters: trained parameters by name.
            state: of the stream, before the stage.
        """
        if self._keeper is None or not progress.steps:
            return
        try:
            if not self._workers.broadcast(self._is_of_this_key):
                return
            empty = StreamState.empty(0, *state.shape, ())
            self._keeper.save_stage(empty, None, LearnerState())
            self._keeper.save_steps(0, progress, parameters)
        except _UNUSABLE as error:
            self._warn(error)

    def spared_scoring(self) -> float:
        """Seconds of scoring that were spared since the last call."""
        known = (self.base_scores, self.scores)
        spared = sum(scores.spared_seconds for scores in known)
        for scores in known:
            scores.spared_seconds = 0.0
        return spared

    def close(self) -> None:
        """Wait for what is being saved, and let other runs have it.

        Ranks need not call this together: after an error, others may be gone.
        """
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        self._lock.release()

    def _is_of_this_key(self) -> bool:
        return self._origin.is_file() and read_bytes(self._origin) == self._directories.stage.name.encode()

    def _wait_for(self, lock: FileLock) -> bool:
        """Hold a lock on rank 0; False where there can be none."""
        try:
            while not self._workers.broadcast(lambda: self._try(lock)):
                if self._stop.is_asked():
                    raise RunStopped
        except _UNUSABLE as error:
            self._warn(error)
            return False
        return True

    def _try(self, lock: FileLock) -> bool:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _ROUND_SECONDS
        while True:
            try:
                lock.acquire()
                return True
            except Timeout:
                asked = self._stop.stop_asked
                if time.monotonic() > deadline or (asked is not None and asked()):
                    return False
                time.sleep(_POLL_SECONDS)

    def _warn(self, error: Exception) -> None:
        _logger.warning("%s: cannot be shared (%s); this run does without", self._directories.stage, error)
