"""The workers' side of `training.storage_path`: a run in a scratch directory, with its results sent to the store."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seekr_tune.checkpoint.remote import Claim, RemoteRoom
from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.config import Config
from seekr_tune.methods.workers import Workers
from seekr_tune.records import StepRow, TrialRecord
from seekr_tune.store import Stamp, Store
from seekr_tune.study.runs.run_directory import TrialFiles
from seekr_tune.study.runs.storage import PARTIAL, STOP, fetch_results, local_stamps

_LOOK_SECONDS = 3.0


@dataclass(frozen=True)
class Scratch:
    """What one rank of a launch works with.

    Attributes:
        directory: of this rank; stands for the run's directory.
        files: the run's files in it.
        room: where checkpoints are kept.
    """

    directory: Path
    files: TrialFiles
    room: RemoteRoom


@contextmanager
def scratch_of(place: Store, config: Config, workers: Workers) -> Iterator[Scratch]:
    """Take over the place of a run, and work there for the time of the block; every rank calls this.

    Args:
        place: of the run at the store.
        config: the experiment as the run sees it.
        workers: the processes that share the run.
    """
    token = workers.broadcast(lambda: Claim.take(place).token)
    claim = Claim(place, token)
    with _directory(place, token, workers.rank) as directory:
        results = Results(directory, claim)
        room = RemoteRoom(claim, directory.parent, directory, workers, results.push)
        yield Scratch(directory, SentFiles(directory, config, results), room)


class Results:
    """Sends a run's results to its place, if they have changed.

    Args:
        directory: with the results.
        claim: of the launch.
    """

    def __init__(self, directory: Path, claim: Claim) -> None:
        self._directory, self._claim = directory, claim
        self._sent: dict[str, Stamp] = {}
        self._lock = threading.Lock()

    def fetch(self) -> None:
        """Begin with what an earlier launch has sent."""
        fetch_results(self._claim.place, self._directory)
        self._sent = local_stamps(self._directory)

    def push(self) -> None:
        """Send what has changed.

        Raises:
            CheckpointError: another launch took over.
        """
        with self._lock:
            self._claim.require()
            here = local_stamps(self._directory)
            for name, stamp in here.items():
                if self._sent.get(name) != stamp:
                    self._claim.place.upload(self._directory / name, name)
                    self._sent[name] = stamp
            if PARTIAL in self._sent.keys() - here.keys():
                del self._sent[PARTIAL]
                self._claim.place.remove(PARTIAL)


class SentFiles(TrialFiles):
    """The files of a run, sent to the store whenever its record changes; between, with each checkpoint."""

    def __init__(self, directory: Path, config: Config, results: Results) -> None:
        super().__init__(directory, config)
        self._results = results

    def open(self) -> TrialRecord | None:
        self._results.fetch()
        return super().open()

    def start(self, record: TrialRecord, unfinished: Sequence[StepRecord]) -> Callable[[StepRecord], None]:
        on_step = super().start(record, unfinished)
        self._results.push()
        return on_step

    def finish_task(self, record: TrialRecord, steps: list[StepRow]) -> None:
        super().finish_task(record, steps)
        self._results.push()

    def end(self, record: TrialRecord) -> TrialRecord:
        written = super().end(record)
        self._results.push()
        return written


class StopAtStore:
    """Asks whether the process that follows the run wants it to stop; looks every few seconds, for a look costs.

    Args:
        place: of the run at the store.
    """

    def __init__(self, place: Store) -> None:
        self._place = place
        self._looked = time.monotonic()
        self._asked = False

    def __call__(self) -> bool:
        if not self._asked and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._asked = self._place.read(STOP) is not None
            self._looked = time.monotonic()
        return self._asked


def scratch_directories(place: Store) -> list[Path]:
    """What launches of the run at a place work in, or have left, on this node."""
    return sorted(Path(tempfile.gettempdir()).glob(f"{_prefix(place)}*"))


def _prefix(place: Store) -> str:
    return f"seekr-tune-{hashlib.sha256(place.label.encode()).hexdigest()[:12]}-"


@contextmanager
def _directory(place: Store, token: str, rank: int) -> Iterator[Path]:
    """A directory for a rank, in one for all ranks of this launch on this node; the last of them removes that.

    What killed launches of the run left on the node is removed first; their processes, if one still lives, then fail.
    """
    shared = Path(tempfile.gettempdir()) / f"{_prefix(place)}{token}"
    shared.mkdir(mode=0o700, exist_ok=True)
    for other in set(scratch_directories(place)) - {shared}:
        shutil.rmtree(other, ignore_errors=True)
    directory = shared / f"rank-{rank:02d}"
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if not any(shared.glob("rank-*")):
            shutil.rmtree(shared, ignore_errors=True)
