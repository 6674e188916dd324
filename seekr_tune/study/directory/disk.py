"""A disk that is full or fails is nobody's fault but the disk's: the study stops with one line, and goes on later."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seekr_tune.errors import StudyError, UserError
from seekr_tune.foreign_text import ours

_ROOM = "no space left on its disk; make room"
_FAULTS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EIO: "its disk has failed (Input/output error); mend that",
    errno.EROFS: "its disk is read-only; mend that",
    errno.ESTALE: "its network disk was away (Stale file handle); mend that",
}
"""What is said of a disk, and what is to be done."""


def disk_fault(error: BaseException) -> str | None:
    """What an error, or one that led to it, says of a disk, and what is to be done; None where it says nothing.

    Libraries that turn the system's error into one of their own leave its text.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        for number, fault in _FAULTS.items():
            if (isinstance(cause, OSError) and cause.errno == number) or os.strerror(number) in str(cause):
                return fault
        cause = cause.__cause__ or cause.__context__
    return None


def disk_refusal(directory: Path, fault: str, then: str) -> StudyError:
    """The one line that is said about a disk.

    Args:
        directory: on it.
        fault: see `disk_fault`.
        then: what to do when it is mended.
    """
    return StudyError(f"{directory}: {fault}, then {then}")


@contextmanager
def refusing_disk_faults(directory: Path, again: str) -> Iterator[None]:
    """A disk that is full or fails, anywhere in the block, ends the study with one line.

    Args:
        directory: of the study.
        again: the command of ours that goes on with it.

    Raises:
        StudyError: it is or does; what was saved is kept.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        fault = disk_fault(error)
        if fault is not None:
            raise disk_refusal(directory, fault, f"go on with `{ours(again, directory)}`") from None
        raise
