"""Files that are replaced as a whole: a reader, or a crash, sees the old content or the new, never half of one.

What `replacing` has returned from outlives a crash of the machine, on file systems that can flush a directory; what
`open_to_append` gets is safe from a kill at once, and from such a crash when the system has written it, seconds later.

Nothing is written through a link, nor into a pipe or a device: where one stands, the file is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from seekr_tune import documents
from seekr_tune.errors import DocumentError, NoDocument, StudyError
from seekr_tune.leftovers import new_file, unfinished

_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`; its directory is made if need be."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """A file beside `path` to be written; it takes the place of `path` when the block ends, and not if it raises.

    Both are on the disk then: the content before it gets the name, so that a crash cannot leave an empty file, and the
    name after that, so that a crash cannot bring the old content back.

    Args:
        path: of the file.
        mode: rights of the new file, as far as the umask lets them be.

    Raises:
        StudyError: a link, a pipe or a device is at `path`.
    """
    require_plain(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = new_file(unfinished(path), mode)
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
        with suppress(OSError):  # some network file systems flush no directories
            flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_to_append(path: Path, *, buffered: bool = True) -> BinaryIO:
    """A file that grows in its place; made if need be. Unbuffered, what is added goes to the disk in one piece.

    Raises:
        StudyError: a link, a pipe or a device is at `path`.
        OSError: it cannot be opened.
    """
    require_plain(path)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=-1 if buffered else 0)


def require_plain(path: Path) -> None:
    """Refuse to write where something else than a file or a directory stands.

    Raises:
        StudyError: naming it, and what to do.
    """
    try:
        kind = odd_kind(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    if kind is not None:
        raise refusal_of(path, kind)


def refusal_of(path: Path, kind: str) -> StudyError:
    """The one line that is said about what stands where a file or a directory should."""
    if kind == "a link":
        return StudyError(
            f"{path}: is a link, and nothing is written or deleted through one; put what it leads to in its place, or "
            "remove it"
        )
    return StudyError(f"{path}: is {kind}, not a file; remove it")


def odd_kind(mode: int) -> str | None:
    """What stands where a file or a directory should, in words; None for these two."""
    return _KINDS.get(stat.S_IFMT(mode))


def read_bytes(path: Path, limit: int = documents.MAX_BYTES) -> bytes:
    """The content of a file of a study.

    Args:
        path: of the file.
        limit: most bytes.

    Raises:
        StudyError: the file is missing, cannot be read, or is too large.
        AccessError: this user may not read it.
    """
    try:
        return documents.read_bytes(path, limit)
    except NoDocument:
        raise StudyError(f"{path}: no such file; the trial has not finished a task yet") from None
    except DocumentError as error:
        raise StudyError(str(error)) from None
