"""Digests of files, read once: a folder remembers those of large ones as long as nobody touches them."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from functools import cache
from pathlib import Path

from seekr_tune.access import access_told
from seekr_tune.atomic_files import write_atomically
from seekr_tune.documents import opened, read_bytes, read_text
from seekr_tune.errors import StudyError, UserError

_DIGITS = 64
_KEPT = 10**6
"""Bytes of a file whose digest is worth keeping."""

_LARGE = 2 * 10**9
"""Bytes of a file that takes so long to read that it is said."""

_logger = logging.getLogger(__name__)


def digest_of_file(folder: Path | None, path: Path) -> str:
    """SHA-256 of a file, remembered as long as it is the same file, of the same size, that nobody has touched.

    The time of its content can be set by anybody; that of its inode cannot.

    Args:
        folder: where it is remembered; None: nowhere.
        path: the file.

    Raises:
        AccessError: it may not be read.
    """
    with access_told(path):
        stat = path.stat()
        stamp = [str(path.resolve()), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        known = folder and folder / "digests" / hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:32]
        if known is not None:
            with suppress(OSError, UserError):
                if len(text := read_text(known, limit=_DIGITS)) == _DIGITS:
                    return text
        if stat.st_size >= _LARGE:
            _logger.warning("%s: reading %.1f GB once, to know its digest", path, stat.st_size / 1e9)
        with opened(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    if known is not None and stat.st_size >= _KEPT:
        leave(known, digest)
    return digest


@cache
def digest_of_sources(*parts: str) -> str:
    """SHA-256 of parts of this package: a version number alone does not change with every edit.

    Args:
        parts: rooms and modules, by name: `methods`, `models.agreement`.

    Raises:
        LookupError: there is no such part; it would be left out of the digest for ever.
    """
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for part in parts:
        room = package / part.replace(".", "/")
        if not (paths := sorted(room.rglob("*.py")) or [*package.glob(f"{part.replace('.', '/')}.py")]):
            raise LookupError(f"seekr_tune.{part} is no part of this package")
        for path in paths:
            digest.update(f"{path.relative_to(package)}\0".encode() + read_bytes(path) + b"\0")
    return digest.hexdigest()


def leave(path: Path, text: str) -> None:
    """Write a small file that others may use, whole or not at all; it is no fault if it cannot be written."""
    try:
        write_atomically(path, text.encode())
    except (OSError, StudyError) as error:
        _logger.info("%s: cannot be written (%s); it is found out again next time", path, error)
