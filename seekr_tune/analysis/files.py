"""Files that are replaced as a whole: a reader, or a crash, sees the old content or the new, never half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seekr_tune.access import access_error
from seekr_tune.errors import StudyError
from seekr_tune.remains import unfinished


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`; its directory is made if need be."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to be written; it takes the place of `path` when the block ends, and not if it raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(path)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        StudyError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; the trial has not finished a task yet") from None
    except PermissionError as error:
        raise access_error(path, error) from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
