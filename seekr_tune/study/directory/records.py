"""The records of all runs of a study, as far as they can be read."""

from __future__ import annotations

from pathlib import Path

from seekr_tune.analysis.record import TrialRecord, read_record
from seekr_tune.errors import StudyError
from seekr_tune.study.directory.layout import trials_path


def read_records(directory: Path) -> list[TrialRecord]:
    """The records of a study's runs, in the order of their keys.

    Raises:
        StudyError: one of them is damaged.
    """
    return [read_record(path) for path in sorted(trials_path(directory).glob("*/result.json"))]


def read_all_records(directory: Path) -> tuple[list[TrialRecord], dict[str, str]]:
    """The records that can be read, and by key why each of the others cannot."""
    records, damaged = [], {}
    for path in sorted(trials_path(directory).glob("*/result.json")):
        try:
            records.append(read_record(path))
        except StudyError as error:
            damaged[path.parent.name] = str(error)
    return records, damaged
