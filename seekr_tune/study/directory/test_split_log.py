"""When, and for what, the test split of a study was opened.

The record is written before `test` is read, so that an opening that was killed is one, too. Every report shows it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from seekr_tune.atomic_files import write_atomically
from seekr_tune.config import Section
from seekr_tune.documents import read_json
from seekr_tune.errors import DocumentError, StudyError
from seekr_tune.experiment import load_experiment
from seekr_tune.study.directory.layout import experiment_path, final_path, is_study, openings_path


class Finalist(Section):
    """A configuration that was chosen."""

    configuration: str
    """Its key in the study."""
    params: dict[str, JsonValue]
    """What the search chose, by config path."""
    tuned: dict[str, float]
    """Its objectives on the eval split, means over its replicates."""


class Opening(Section):
    """One opening of the test split."""

    when: str
    """Date and time in UTC, ISO 8601."""
    code_version: str
    """Version of this package."""
    rule: str
    """How the configurations were chosen."""
    configurations: tuple[Finalist, ...]
    """What was chosen, best first."""
    orders: tuple[tuple[str, ...], ...]
    """Learning orders of the final runs."""
    seeds: tuple[int, ...]
    """Their seeds."""
    memory_draws: tuple[int, ...]
    """Their random memories."""
    folder: str = Field(pattern=r"^final(-[0-9]+)?$")
    """Directory of the final runs, within that of the study."""
    again: bool
    """Whether `test` had been opened before."""
    finished: bool = False
    """Whether every final run was finished."""

    @property
    def date(self) -> str:
        """The day of it."""
        return self.when.partition("T")[0]


_OPENINGS = TypeAdapter(tuple[Opening, ...])


def openings(directory: Path) -> tuple[Opening, ...]:
    """Every opening of a study's test split, the first one first.

    Raises:
        StudyError: the record of them is damaged or lost.
    """
    path = openings_path(directory)
    if not path.is_file():
        if final_path(directory).exists():
            raise StudyError(f"{path}: is missing, but {final_path(directory)} is there; restore the file from a copy")
        return ()
    try:
        return _OPENINGS.validate_python(read_json(path))
    except (OSError, ValidationError, DocumentError):
        raise StudyError(
            f"{path}: cannot be read, so nobody knows how often test was opened; restore the file from a copy"
        ) from None


def write_openings(directory: Path, every: Sequence[Opening]) -> None:
    """Replace the record of all openings, atomically."""
    rows = [opening.model_dump(mode="json") for opening in every]
    write_atomically(openings_path(directory), json.dumps(rows, indent=2).encode())


def protocol_line(directory: Path) -> str | None:
    """What a study was tuned on, and whether `test` was opened: stands in every report. None for a single run."""
    if not is_study(directory):
        return None
    prefix = load_experiment(experiment_path(directory)).study.prefix_tasks
    tuned = "tuned on eval" if prefix is None else f"tuned on eval of the first {prefix} tasks"
    every = openings(directory)
    if not every:
        return f"{tuned}; test sealed"
    times = "1 time" if len(every) == 1 else f"{len(every)} times"
    return f"{tuned}; test opened {', '.join(dict.fromkeys(opening.date for opening in every))} ({times})"
