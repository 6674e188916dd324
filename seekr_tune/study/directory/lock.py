"""One writer of a study at a time: a file lock, and beside it a heartbeat for disks on which locks do not hold.

`.lock` is locked as long as the driver lives, which settles it on one machine. `study/driver.json` names the driver and
is touched every few seconds, so that another machine that shares the disk sees a driver whose lock it may not see.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from seekr_tune.atomic_files import write_atomically
from seekr_tune.documents import read_json
from seekr_tune.errors import AccessError, StudyError
from seekr_tune.foreign_text import ours
from seekr_tune.leftovers import is_alive
from seekr_tune.study.directory.directory_moved import Footing
from seekr_tune.study.directory.disk import disk_fault, disk_refusal
from seekr_tune.study.directory.forgotten import require_nothing_erasing
from seekr_tune.study.directory.layout import (
    driver_path,
    experiment_path,
    is_study,
    log_path,
    provenance_path,
    stop_path,
    trials_path,
)
from seekr_tune.study.directory.links import require_no_links

BEAT_SECONDS = 5.0
STALE_SECONDS = 30.0
"""A heartbeat that is older belongs to a driver that is gone."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """The process that runs a study.

    Attributes:
        pid, host: which one.
        since: when it began, in UTC.
        slots: runs that it does at the same time; None until it knows.
    """

    pid: int
    host: str
    since: str
    slots: int | None = None

    @classmethod
    def here(cls) -> Self:
        """This process."""
        return cls(os.getpid(), socket.gethostname(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    def names(self, other: Holder) -> bool:
        """Whether both are the same process."""
        return (self.pid, self.host, self.since) == (other.pid, other.host, other.since)

    @property
    def is_alive_here(self) -> bool:
        """Whether it is a process of this machine that lives."""
        return self.host == socket.gethostname() and is_alive(self.pid)


@dataclass(frozen=True)
class Claim:
    """What a driver holds a study by; travels to the processes that work for it.

    Attributes:
        path: of the file that names the driver.
        holder: the driver.
    """

    path: Path
    holder: Holder

    def replaced_by(self) -> Holder | None:
        """Who runs the study now, if that is another one: this driver was asleep for too long, or the directory was
        deleted and holds a new study now."""
        found = _read(self.path)
        return None if found is None or found.names(self.holder) else found


class StudyLock:
    """Holds a study's directory for the time of the block.

    A stop file that an earlier driver left is removed at the beginning, and at the end one that this driver obeyed.
    Where it ends in an error before a study was recorded, what was made for it is removed.

    Args:
        directory: of the study; made if need be.
        erasing: for the command that takes samples out of it; all others wait until that is done.

    Raises:
        StudyError: another process holds it, which the message names; a sample is erased by half; a link stands where
            something is written; or the directory cannot be written to.
    """

    def __init__(self, directory: Path, *, erasing: bool = False) -> None:
        self._directory, self._path, self._erasing = directory, driver_path(directory), erasing
        self._lock = FileLock(directory / ".lock", timeout=0)
        self._holder = Holder.here()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._acquire()
        except OSError as error:
            fault = disk_fault(error)
            if fault is not None:
                raise disk_refusal(self._directory, fault, "give the command again") from None
            raise StudyError(f"{self._directory}: cannot be written to ({error.strerror}); mend that") from None
        self._heart.start()
        return self

    def _acquire(self) -> None:
        require_no_links(self._directory, everywhere=self._erasing)
        self._made = [path for path in _made_by_a_start(self._directory) if not os.path.lexists(path)]
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise _refusal(self._directory, _read(self._path)) from None
        try:
            self._require_no_driver_elsewhere()
            if not self._erasing:
                require_nothing_erasing(self._directory)
            stop_path(self._directory).unlink(missing_ok=True)
            self._write()
            self._footing = Footing(self._directory, f"go on with `{ours('resume', self._directory)}`")
        except BaseException:
            self._lock.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._heart.join()
        if self.claim.replaced_by() is None:
            stop_path(self._directory).unlink(missing_ok=True)
        if self._is_ours():
            self._path.unlink(missing_ok=True)
        if error is not None and self._footing.is_there() and not is_study(self._directory):
            _unmake(self._made)  # while it is locked: whoever waits for it finds a lock that is gone
        self._footing.close()
        self._lock.release()

    def require_there(self) -> None:
        """Ask whether the study is still where it was taken.

        Raises:
            StudyError: it was moved or deleted.
        """
        self._footing.require()

    @property
    def claim(self) -> Claim:
        """What this driver holds the study by."""
        return Claim(self._path, self._holder)

    def note_slots(self, slots: int) -> None:
        """Tell who asks for the status how many runs are done at the same time."""
        self.require_there()
        self._holder = Holder(**{**asdict(self._holder), "slots": slots})
        self._write()

    def _write(self) -> None:
        write_atomically(self._path, json.dumps(asdict(self._holder)).encode())

    def _require_no_driver_elsewhere(self) -> None:
        if not self._path.is_file():
            return
        holder = _read(self._path)
        if holder is None:
            _logger.warning("%s: is damaged; nobody holds the lock of this study, so it is taken over", self._path)
        elif holder.host != socket.gethostname() and _is_fresh(self._path):
            raise _refusal(self._directory, holder)
        elif holder.host != socket.gethostname():
            _logger.warning("%s: %s has not been heard of for a while; taken over", self._directory, holder)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            if self._is_ours():
                with suppress(OSError):
                    os.utime(self._path)

    def _is_ours(self) -> bool:
        found = _read(self._path)
        return found is not None and found.names(self._holder)


def living_driver(directory: Path) -> Holder | None:
    """The process that runs a study now; None if there is none."""
    path = driver_path(directory)
    holder = _read(path)
    if holder is None or (holder.host == socket.gethostname() and not holder.is_alive_here):
        return None
    return holder if _is_fresh(path) else None


def _made_by_a_start(directory: Path) -> list[Path]:
    """What a start leaves until the experiment is recorded, each before that in which it lies."""
    return [
        *(directory / ".lock", log_path(directory), provenance_path(directory)),
        *(driver_path(directory).parent, directory, *directory.parents),
    ]


def _unmake(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):  # a directory that holds something of others
            path.rmdir() if path.is_dir() else path.unlink()


def require_study(directory: Path, mend: str = "name the directory that `seekr-tune sweep` printed") -> None:
    """Refuse a directory that holds no study, by what is wrong with it.

    Args:
        directory: of the study.
        mend: what to do where there is nothing at all.

    Raises:
        StudyError: there is nothing to read, or not yet.
    """
    if is_study(directory):
        return
    path = experiment_path(directory)
    if os.path.lexists(path):
        raise StudyError(f"{path}: is no file; restore it from a copy")
    if any(trials_path(directory).glob("*")):
        raise StudyError(f"{path}: is missing, but runs of a study are there; restore it from a copy")
    driver = living_driver(directory)
    if driver is not None:
        raise StudyError(
            f"{directory}: a study is being started there by {driver}; wait until it has begun, or end it with "
            f"`{ours('stop', directory)}`"
        )
    raise StudyError(f"{directory}: holds no study; {mend}")


def _read(path: Path) -> Holder | None:
    """None if there is no such file, or if it is damaged."""
    try:
        holder = read_json(path)
        slots = holder.get("slots")
        since = str(holder.get("since", "?"))
        return Holder(int(holder["pid"]), str(holder["host"]), since, None if slots is None else int(slots))
    except AccessError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _is_fresh(path: Path) -> bool:
    """Whether the file was touched lately, by the clock of its disk: those of two machines may differ."""
    try:
        touched = path.stat().st_mtime
        try:
            if path.parent.is_symlink():
                raise NotADirectoryError(path.parent)
            with tempfile.TemporaryFile(dir=path.parent) as probe:
                now = os.fstat(probe.fileno()).st_mtime
        except OSError:  # who may only read the study, or not write here
            now = time.time()
        return abs(now - touched) < STALE_SECONDS
    except OSError:
        return False


def _refusal(directory: Path, holder: Holder | None) -> StudyError:
    who = "another process" if holder is None else str(holder)
    return StudyError(f"{directory}: is being run by {who}; wait for it, or end it with `{ours('stop', directory)}`")


@contextmanager
def held_run(directory: Path) -> Iterator[None]:
    """Hold the directory of a single run.

    Raises:
        StudyError: another process has it, or a link stands where something is written.
    """
    require_no_links(directory)
    lock = FileLock(directory / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StudyError(f"{directory}: another process works on this run; wait for it, or end it") from None
    try:
        yield
    finally:
        lock.release()
