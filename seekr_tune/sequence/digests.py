"""Digests of large files, read once: a folder remembers them as long as a file's size and time stay."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from pathlib import Path

from seekr_tune.remains import unfinished
from seekr_tune.sequence.checkpoint import fingerprint

_logger = logging.getLogger(__name__)


def digest_of_file(folder: Path, path: Path) -> str:
    """SHA-256 of a file, remembered as long as its size and time stay.

    Args:
        folder: where it is remembered.
        path: the file.
    """
    stat = path.stat()
    identity = json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
    known = folder / "digests" / hashlib.sha256(identity.encode()).hexdigest()[:32]
    if known.is_file() and len(text := known.read_text(encoding="ascii", errors="replace")) == 64:
        return text
    digest = str(fingerprint(path)["sha256"])
    leave(known, digest)
    return digest


def leave(path: Path, text: str) -> None:
    """Write a small file that others may use, whole or not at all; it is no fault if it cannot be written."""
    temporary = unfinished(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        _logger.info("%s: cannot be written (%s); it is found out again next time", path, error)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
