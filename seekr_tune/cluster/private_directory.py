"""A directory for the files of a private Ray session, which nobody else can enter and which goes with its owner.

Ray lets everybody write where it keeps its files (mode 0777), the sockets that its processes trust among them. So they
lie inside a directory with mode 0700. Its owner holds a lock on it, which the system takes from a process that is
killed: what nobody holds is removed by the next session of the same user.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seekr_tune.errors import StudyError

_PREFIX = "seekr."
_PARTS = {"r", "token"}
"""What a session has in its directory: Ray's files, and its token."""
_NAME_BYTES = len("/seekr.abcdefgh/r")
_SOCKET_BYTES = 107 if sys.platform.startswith("linux") else 103
"""The longest path of a Unix socket."""
_NAMES = ("RAY_TMPDIR", "TMPDIR")
_USUAL = ("/tmp", "/var/tmp")
_PATIENCE_SECONDS = 2.0
"""Processes of Ray that are still ending may write something while it is removed."""


@dataclass(frozen=True)
class Place:
    """Where the directories of sessions are made.

    Attributes:
        path: of it.
        passed_over: the places that come before it, each with the reason why it is not taken.
    """

    path: Path
    passed_over: tuple[str, ...] = ()


@contextmanager
def private_directory() -> Iterator[Path]:
    """A new directory for the time of the block, mode 0700.

    Raises:
        StudyError: there is no place for it.
    """
    place = find_place().path
    for left in place.glob(f"{_PREFIX}????????"):
        _remove_if_left(left)
    path, lock = _make(place)
    try:
        yield path
    finally:
        _remove(path)
        if lock is not None:
            os.close(lock)


def find_place() -> Place:
    """The directory that RAY_TMPDIR names, or else TMPDIR, or else the system's; one that sockets or safety rule out
    is passed over.

    Raises:
        StudyError: a directory that is named cannot be written to, or no other is left.
    """
    passed_over: list[str] = []
    for name, given in [*((name, os.environ.get(name)) for name in _NAMES), *((None, path) for path in _USUAL)]:
        if not given:
            continue
        path, text = Path(os.path.realpath(given)), f"{name}={given}" if name else given
        try:
            reason = _why_not(path)
        except OSError as error:
            reason = f"cannot be written to ({error.strerror})"
            if name:
                raise StudyError(f"{text}: {reason}; name a directory that can, or unset {name}") from None
        if reason is None:
            return Place(path, tuple(passed_over))
        passed_over.append(f"{text} {reason}")
    raise StudyError(
        f"there is no place for Ray's files: {', '.join(passed_over)}; set RAY_TMPDIR to a directory of your own, of "
        f"{_most_bytes()} characters at most"
    )


def _why_not(path: Path) -> str | None:
    """Why no session can have its directory there; None where it can.

    Raises:
        OSError: nothing can be made there.
    """
    if len(os.fsencode(path)) > _most_bytes():
        return f"is longer than {_most_bytes()} characters, so that names of sockets do not fit"
    environment = os.environ.get("VIRTUAL_ENV")
    if environment and path.is_relative_to(os.path.realpath(environment)):
        return "lies inside the virtual environment, where Ray keeps nothing"
    path.mkdir(parents=True, exist_ok=True)  # as Ray does
    with tempfile.TemporaryFile(dir=path):
        pass
    mode = path.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        return "lets others replace what lies in it"
    return None


def _most_bytes() -> int:
    """Of the path of a place."""
    of_ray = f"/session_2026-01-31_23-59-59_123456_{os.getpid()}/sockets/plasma_store"
    return _SOCKET_BYTES - _NAME_BYTES - len(of_ray)


def _make(place: Path) -> tuple[Path, int | None]:
    """A new directory, and the lock on it; None on a disk that has no locks, where it is not removed after a kill."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        try:
            lock = _lock(path)
        except (BlockingIOError, FileNotFoundError):
            continue  # another session took it for one that was left, and removes it
        except OSError:
            return path, None
        if path.exists():
            return path, lock
        os.close(lock)


def _lock(path: Path) -> int:
    """Lock a directory.

    Raises:
        BlockingIOError: somebody holds it.
        OSError: it is gone, is no directory, or its disk has no locks.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove_if_left(path: Path) -> None:
    """Remove what a session has left; a directory of that name that holds anything else is the user's own."""
    try:
        found = path.stat(follow_symlinks=False)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700 or not set(os.listdir(path)) <= _PARTS:
            return
        lock = _lock(path)
    except OSError:
        return
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def _remove(path: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    shutil.rmtree(path, ignore_errors=True)
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
        shutil.rmtree(path, ignore_errors=True)
