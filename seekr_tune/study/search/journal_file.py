"""The file of a journal whose lines carry checksums, so that a flipped bit is not taken for a result.

Optuna passes over what it does not know in a line; so do others that read the file, and lines that others have written
(optuna-dashboard keeps notes there) need no checksum.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.storages.journal import JournalFileBackend

from seekr_tune.documents import parse_json

_CHECKSUM = "crc32"


class CheckedJournalFile(JournalFileBackend):
    """Writes every line with its checksum."""

    def append_logs(self, logs: Sequence[Mapping[str, Any]]) -> None:
        """Add entries at the end."""
        super().append_logs([{**log, _CHECKSUM: _checksum(log)} for log in logs])


def is_entry(line: bytes) -> bool:
    """Whether a line is as it was written."""
    try:
        entry = parse_json(line, finite=False)
    except ValueError:
        return False
    if not isinstance(entry, dict):
        return False
    checksum = entry.pop(_CHECKSUM, None)
    return checksum is None or checksum == _checksum(entry)


def _checksum(log: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(log).encode())
