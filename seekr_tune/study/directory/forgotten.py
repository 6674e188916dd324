"""What was erased from a study or a run, and what is being erased just now.

erased.json      every sample that was erased: its id, when, and what the proof has read; no text of it
erasing.json     while `seekr-tune forget` works: what it looks for. It goes last, so a killed call leaves it, and
                 nothing is run in this directory until the same command has been given again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from seekr_tune.atomic_files import replacing, write_atomically
from seekr_tune.config import Section
from seekr_tune.documents import read_json
from seekr_tune.errors import DocumentError, StudyError
from seekr_tune.foreign_text import ours
from seekr_tune.records import ErasedRow


@dataclass(frozen=True, order=True)
class SampleId:
    """A training sample as users name it: `TASK:INDEX`.

    Attributes:
        task: name of its task.
        row: its index in the task's train split, from 0; stays what it is when other rows are erased.
    """

    task: str
    row: int

    @classmethod
    def parse(cls, text: str) -> SampleId:
        """The inverse of `str`.

        Raises:
            StudyError: it is not of this form.
        """
        task, colon, row = text.rpartition(":")
        if not colon or not task or not (row.isascii() and row.isdigit()):
            raise StudyError(f"sample {text!r}: is not TASK:INDEX, such as star:5; `seekr-tune samples` lists them")
        return cls(task, int(row))

    def __str__(self) -> str:
        return f"{self.task}:{self.row}"


class Erasing(Section):
    """What a call looks for."""

    samples: dict[str, str]
    """Ids, each with why."""
    tokens: tuple[tuple[int, ...], ...] = ()
    """Token ids under which they were stored."""
    prompts: tuple[str, ...] = ()
    """Their prompts, as far as the data hold them."""
    checkpoints: dict[str, int] = {}
    """By id, the checkpoints that held it when the first call looked."""


_ERASED = TypeAdapter(tuple[ErasedRow, ...])


def erased_path(directory: Path) -> Path:
    """The record of what was erased."""
    return directory / "erased.json"


def erasing_path(directory: Path) -> Path:
    """What is being erased."""
    return directory / "erasing.json"


def read_erased(directory: Path) -> tuple[ErasedRow, ...]:
    """Every sample that was erased, the first one first.

    Raises:
        StudyError: the record is damaged.
    """
    path = erased_path(directory)
    if not path.is_file():
        return ()
    try:
        return _ERASED.validate_python(read_json(path))
    except (ValidationError, DocumentError):
        raise StudyError(f"{path}: is damaged; restore it from a copy: it says what was erased, and when") from None


def add_erased(directory: Path, samples: Iterable[ErasedRow]) -> tuple[ErasedRow, ...]:
    """Add to the record what it does not name yet; the whole record."""
    known = {entry.sample: entry for entry in read_erased(directory)}
    for sample in samples:
        known.setdefault(sample.sample, sample)
    write_atomically(erased_path(directory), _ERASED.dump_json(tuple(known.values()), indent=1))
    return tuple(known.values())


def read_erasing(directory: Path) -> Erasing | None:
    """What a killed call was looking for; None where none was killed.

    Raises:
        StudyError: the file is damaged.
    """
    path = erasing_path(directory)
    if not path.is_file():
        return None
    try:
        return Erasing.model_validate(read_json(path))
    except (ValidationError, DocumentError):
        raise StudyError(f"{path}: is damaged; remove it, and give `seekr-tune forget` every sample again") from None


def write_erasing(directory: Path, erasing: Erasing) -> None:
    """Note what is looked for; the file holds a sample's text, so nobody else may read it."""
    with replacing(erasing_path(directory), mode=0o600) as temporary:
        temporary.write_text(erasing.model_dump_json(), encoding="utf-8")


def require_nothing_erasing(directory: Path) -> None:
    """Refuse a directory in which a sample is erased by half.

    Raises:
        StudyError: naming the command that finishes it.
    """
    if erasing_path(directory).is_file():
        raise StudyError(
            f"{directory}: a sample is erased by half; finish that with `{ours('forget', directory)}`, then go on"
        )
