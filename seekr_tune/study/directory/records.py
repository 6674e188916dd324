"""The records of all runs of a study, as far as they can be read."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from seekr_tune.access import access_told, listed
from seekr_tune.errors import StudyError
from seekr_tune.records import TrialRecord, read_record, write_record
from seekr_tune.study.directory.layout import trials_path


def read_records(directory: Path) -> list[TrialRecord]:
    """The records of a study's runs, in the order of their keys.

    Raises:
        StudyError: one of them is damaged.
    """
    return [record_at(path) for path in _results(directory)]


def read_all_records(directory: Path) -> tuple[list[TrialRecord], dict[str, str]]:
    """The records that can be read, and by key why each of the others cannot."""
    records, damaged = [], {}
    for path in _results(directory):
        try:
            records.append(record_at(path))
        except StudyError as error:
            damaged[path.parent.name] = str(error)
    return records, damaged


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector: a thousand records hold no cycle, and it would look at each of them again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def record_at(path: Path) -> TrialRecord:
    """A record, which must be of the run in whose directory it lies: its key leads to other files. Without its heads.

    Raises:
        StudyError: it is not, or it is damaged.
    """
    with access_told(path):
        found = path.stat()
    record = _record_as_of(path, (found.st_ino, found.st_mtime_ns, found.st_size))
    if record.trial != path.parent.name:
        raise StudyError(f"{path}: is the record of {record.trial!r}; put back that of {path.parent.name}")
    return record


def change_record(path: Path, **changes: Any) -> TrialRecord:
    """Write the record at `path` again with some fields changed; its heads stay.

    Raises:
        StudyError: it is missing or damaged.
    """
    return write_record(path, read_record(path).model_copy(update=changes))


def _results(directory: Path) -> list[Path]:
    """Where the runs' records are; AccessError where this user may not look."""
    places = [folder / "result.json" for folder in listed(trials_path(directory))]
    with access_told(trials_path(directory)):
        return [path for path in places if path.is_file()]


@lru_cache(maxsize=10_000)
def _record_as_of(path: Path, stamp: tuple[int, ...]) -> TrialRecord:
    """The record that a file held when it had this stamp: a study looks at all of its records after each task, and
    few of them have changed."""
    return read_record(path, heads=False)
