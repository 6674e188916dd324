"""A full disk is nobody's fault but the disk's: the study stops with one line, and goes on when there is room again."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seekr_tune.errors import StudyError, UserError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_TEXTS = ("No space left on device", "Disk quota exceeded")
"""What libraries that turn the system's error into one of their own leave of it."""


def no_space(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that a disk is full or a quota used up."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.errno in _NO_SPACE:
            return True
        if any(text in str(cause) for text in _TEXTS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def full_disk(directory: Path, mend: str) -> StudyError:
    """The one line that is said about it."""
    return StudyError(f"{directory}: no space left on its disk; make room, then {mend}")


@contextmanager
def refusing_full_disk(directory: Path, again: str) -> Iterator[None]:
    """A full disk anywhere in the block ends the study with one line.

    Args:
        directory: of the study.
        again: the command that goes on with it.

    Raises:
        StudyError: the disk is full; what was saved is kept.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if no_space(error):
            raise full_disk(directory, f"go on with `{again} {directory}`") from None
        raise
