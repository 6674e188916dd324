"""Numbers that several runs would find alike: one file each, by model and by what is scored."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seekr_tune.atomic_files import write_atomically
from seekr_tune.documents import read_json
from seekr_tune.errors import AccessError, NoDocument, StudyError
from seekr_tune.methods.workers import Workers

_logger = logging.getLogger(__name__)


class SharedScores:
    """Numbers about one model, or about the data alone, by what was scored.

    Args:
        directory: all that they depend on, besides what is scored, is in its name.
        workers: the processes that share the run; every rank makes the same calls.

    Attributes:
        spared_seconds: what it took others to find the scores that were taken from here.
    """

    def __init__(self, directory: Path, workers: Workers) -> None:
        self._directory, self._workers = directory, workers
        self.spared_seconds = 0.0

    def get(self, subject: Mapping[str, Any], find: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """Numbers that are known, or `find()`, which is then known to others.

        Args:
            subject: everything besides the model that they depend on.
            find: called on every rank where nobody knows; finite numbers by name.
        """
        path = self._directory / f"{_digest(subject)}.json"
        known = self._workers.broadcast(lambda: _read(path))
        if known is not None:
            values, seconds = known
            self.spared_seconds += seconds
            return values
        started = time.perf_counter()
        values = find()
        if self._workers.rank == 0:
            _write(path, values, time.perf_counter() - started)
        return values


def _read(path: Path) -> tuple[Mapping[str, float], float] | None:
    """Numbers and seconds; None where there is no such file, or a damaged one."""
    try:
        document = read_json(path)
        found = document["found"]
        if document["sha256"] != _digest(found) or not all(math.isfinite(value) for value in found.values()):
            raise ValueError("does not match its checksum")
        seconds = float(found.pop("seconds"))
        return {name: float(value) for name, value in found.items()}, seconds
    except NoDocument:
        return None
    except AccessError as error:
        _logger.warning("%s; scored again", error)
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        _logger.warning("%s: damaged (%s); scored again", path, error)
        return None


def _write(path: Path, values: Mapping[str, float], seconds: float) -> None:
    found = {**values, "seconds": seconds}
    try:
        write_atomically(path, json.dumps({"found": found, "sha256": _digest(found)}).encode())
    except (OSError, StudyError) as error:
        _logger.warning("%s: cannot be written (%s); others score again", path, error)


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
