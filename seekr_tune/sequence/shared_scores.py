"""Scores that several runs would find alike: one file each, by model and by what is scored."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seekr_tune.documents import read_json
from seekr_tune.errors import AccessError, NoDocument, StudyError
from seekr_tune.files import write_atomically
from seekr_tune.sequence.workers import Workers

_logger = logging.getLogger(__name__)


class SharedScores:
    """Scores of one model, by what was scored.

    Args:
        directory: of the model; all that makes the model is in its name.
        workers: the processes that share the run; every rank makes the same calls.

    Attributes:
        spared_seconds: what it took others to find the scores that were taken from here.
    """

    def __init__(self, directory: Path, workers: Workers) -> None:
        self._directory, self._workers = directory, workers
        self.spared_seconds = 0.0

    def get(self, subject: Mapping[str, Any], score: Callable[[], float]) -> float:
        """A score that is known, or `score()`, which is then known to others.

        Args:
            subject: everything besides the model that the score depends on.
            score: called on every rank where nobody knows.
        """
        path = self._directory / f"{_digest(subject)}.json"
        known = self._workers.broadcast(lambda: _read(path))
        if known is not None:
            value, seconds = known
            self.spared_seconds += seconds
            return value
        started = time.perf_counter()
        value = score()
        if self._workers.rank == 0:
            _write(path, value, time.perf_counter() - started)
        return value


def _read(path: Path) -> tuple[float, float] | None:
    """Score and seconds; None where there is no such file, or a damaged one."""
    try:
        document = read_json(path)
        found = document["found"]
        if document["sha256"] != _digest(found) or not all(math.isfinite(value) for value in found.values()):
            raise ValueError("does not match its checksum")
        return float(found["score"]), float(found["seconds"])
    except NoDocument:
        return None
    except AccessError as error:
        _logger.warning("%s; scored again", error)
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        _logger.warning("%s: damaged (%s); scored again", path, error)
        return None


def _write(path: Path, score: float, seconds: float) -> None:
    found = {"score": score, "seconds": seconds}
    try:
        write_atomically(path, json.dumps({"found": found, "sha256": _digest(found)}).encode())
    except (OSError, StudyError) as error:
        _logger.warning("%s: cannot be written (%s); others score again", path, error)


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
