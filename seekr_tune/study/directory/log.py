"""What happened to a run, or to the process that drives a study: `log.jsonl`, one JSON object a line.

Lines are appended whole, so a kill costs the last one at most; numbers of single steps stand in `steps.jsonl`.
Neither texts of samples nor credentials get in.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seekr_tune.atomic_files import open_to_append, read_bytes, require_plain
from seekr_tune.documents import MAX_GROWN_BYTES, parse_json
from seekr_tune.errors import StudyError
from seekr_tune.foreign_text import printable
from seekr_tune.quiet_libraries import OURS, hear_libraries, is_heard, message_of, python_warnings_logged
from seekr_tune.study.directory.layout import log_path

RUN_STARTED = "run started"
"""Begins each attempt at a run."""

LAUNCH_STARTED, LAUNCH_FAILED = "launch started", "launch failed"
"""Begins each launch of a study; says that an error ended it."""

_LONGEST = 2000
"""Characters of a message or an error; a line then goes to the disk in one piece."""
_MOST_PER_PLACE = 10
"""Records that one place in a library may leave: what it says at every step must not fill the disk."""
_URI_SECRET = re.compile(r"(?<=://)[^\s/@]*:[^\s/@]*(?=@)|(?<=[?&])[^\s=&]*=[^\s&]*")
_SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 8


@dataclass(frozen=True)
class Entry:
    """One line of a log.

    Attributes:
        time: when, UTC, in ISO 8601.
        level: how bad it is.
        logger: who says it: a module of this package, or of a library.
        message: what happened; free text in warnings and errors.
        fields: its numbers and names.
    """

    time: str
    level: str
    logger: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = "  ".join(f"{name}={_shown(value)}" for name, value in self.fields.items())
        who = "" if self.logger.startswith(OURS) else f"{self.logger}: "
        text = " ".join(self.message.split())
        return f"{self.time[:19].replace('T', ' ')}  {self.level:<7}  {who}{text}{'  ' if told else ''}{told}"


@contextmanager
def logged_in(directory: Path, **always: Any) -> Iterator[None]:
    """Write what this process logs into a directory's log, for the time of the block. The caller holds the directory.

    All its threads count, for checkpoints are written and teachers read in threads, Ray watches in others, and none can
    be told from a stranger's: a line too many is read past, a warning that is missing is missed.

    Args:
        directory: of a run or a study; made by the caller before the first record.
        always: fields of every line.
    """
    path = log_path(directory)
    _cut_torn_line(path)
    hear_libraries()
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    handler, level = _RunLog(path, always), ours.level
    root.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        with python_warnings_logged():
            yield
    finally:
        ours.setLevel(level)
        root.removeHandler(handler)


def read_log(directory: Path, level: int = logging.INFO) -> Iterator[Entry]:
    """The lines of a log. A line that is damaged is a warning in its place.

    Args:
        directory: of the run or study.
        level: of `logging`; what is less is left out.

    Raises:
        StudyError: the directory has none.
    """
    path = log_path(directory)
    if not path.exists():
        raise StudyError(f"{path}: no such file; nothing has happened there yet")
    content = read_bytes(path, MAX_GROWN_BYTES)
    time, levels = "-" * 19, logging.getLevelNamesMapping()
    for number, line in enumerate(content.splitlines(), start=1):
        entry = _entry(line) or Entry(time, "warning", OURS, f"line {number} of {path} is damaged")
        time = entry.time
        if levels.get(entry.level.upper(), logging.ERROR) >= level:
            yield entry


def attempts(directory: Path) -> int:
    """How often a run was started."""
    path = log_path(directory)
    return sum(entry.message == RUN_STARTED for entry in read_log(directory)) if path.is_file() else 0


def last_failure(directory: Path) -> str | None:
    """What ended the last launch of a study before its time; None where nothing did, or nobody knows."""
    path = log_path(directory)
    launches = [entry for entry in read_log(directory) if entry.message.startswith("launch ")] if path.is_file() else []
    if not launches or launches[-1].message not in (LAUNCH_STARTED, LAUNCH_FAILED):
        return None
    return str(launches[-1].fields.get("error", "its process was killed, or the directory was moved meanwhile"))


def merge_log(path: Path, other: Path) -> None:
    """Add the lines of another log that one lacks: those of workers to those of the process that follows them."""
    _cut_torn_line(path)
    known = set(read_bytes(path, MAX_GROWN_BYTES).splitlines()) if path.is_file() else set()
    lines = [line for line in read_bytes(other, MAX_GROWN_BYTES).splitlines(keepends=True) if line.strip() not in known]
    with open_to_append(path) as file:
        file.write(b"".join(line for line in lines if line.endswith(b"\n")))


class _RunLog(logging.Handler):
    """Appends what is news to a log, each line with one write: a kill leaves whole lines, and so do two processes."""

    def __init__(self, path: Path, always: dict[str, Any]) -> None:
        super().__init__(logging.INFO)
        self._path = path
        self.setFormatter(_JsonLine(always))
        self.addFilter(is_heard)
        self.addFilter(_NotTooOften())

    def emit(self, record: logging.LogRecord) -> None:
        # A disk that takes no log takes no results either, and what writes those says so.
        with suppress(OSError, StudyError), open_to_append(self._path, buffered=False) as file:
            file.write(f"{self.format(record)}\n".encode(errors="replace"))


class _NotTooOften(logging.Filter):
    """Lets so many records of one place in a library pass."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: Counter[tuple[str, int]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith(OURS):
            return True
        place = (getattr(record, "fields", {}).get("place", record.pathname), record.lineno)
        self._seen[place] += 1
        return self._seen[place] <= _MOST_PER_PLACE


class _JsonLine(logging.Formatter):
    """A record as one JSON object; `extra={"fields": {...}}` of a record are entries of it."""

    def __init__(self, always: dict[str, Any]) -> None:
        super().__init__()
        self._always = always
        self._secrets = [value for name, value in os.environ.items() if _is_secret(name, value)]

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._clean(message_of(record)),
            **self._always,
            **{name: self._clean(value) for name, value in getattr(record, "fields", {}).items()},
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = self._clean(f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}")
        return printable(json.dumps(line, ensure_ascii=False, default=str))

    def _clean(self, value: Any) -> Any:
        """A text without secrets, and no longer than a line may be; anything else as it is."""
        if not isinstance(value, str):
            return value
        for secret in self._secrets:
            value = value.replace(secret, "***")
        value = _URI_SECRET.sub("***", value)
        return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."


def _is_secret(name: str, value: str) -> bool:
    return _SECRET_NAME.search(name) is not None and len(value) >= _SHORTEST_SECRET


def _cut_torn_line(path: Path) -> None:
    """Remove a last line that a kill, or a full disk, has cut."""
    require_plain(path)
    if not path.is_file():
        return
    with open_to_append(path) as file:
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def _entry(line: bytes) -> Entry | None:
    try:
        values = parse_json(line, finite=False)  # a loss may be no number
        time, level, logger, message = (str(values.pop(name)) for name in ("time", "level", "logger", "message"))
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return Entry(time, level, logger, message, values)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    is_word = isinstance(value, str) and value.split() == [value]
    return value if is_word else json.dumps(value, ensure_ascii=False)
