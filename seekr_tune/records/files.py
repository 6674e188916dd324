"""The files of one run, as a trial writes them after every finished task and the analysis reads them.

`result.json` is one `TrialRecord`, `result.heads.parquet` beside it the heads (`heads`), `steps.jsonl` the steps. Each
is replaced as a whole, so a reader sees the old file or the new one, never half of one. Heads and steps are many:
whoever needs them reads them, of one run at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from seekr_tune.atomic_files import read_bytes, write_atomically
from seekr_tune.documents import MAX_GROWN_BYTES, parse_json
from seekr_tune.errors import DocumentError, StudyError
from seekr_tune.records.rows import HeadRow, StepRow
from seekr_tune.records.seal import sealed, sealed_line, unsealed_line
from seekr_tune.records.trial import TrialRecord, one_line


def write_record(path: Path, record: TrialRecord) -> TrialRecord:
    """Replace `path` by the record as JSON with its checksum, atomically; heads that it has go into their file first.

    Heads of a record that was read stay as they lie there.

    Returns:
        The record as `read_record` reads it.
    """
    if record.heads:
        # Arrow comes with it, which those who only read records do without.
        from seekr_tune.records.columns import columns_of, table_of, write_columns

        digest = write_columns(heads_path(path), table_of(record.heads, columns_of(HeadRow)))
        record = record.model_copy(update={"heads": (), "heads_sha256": digest})
    write_atomically(path, sealed(record.to_json().encode()))
    return record


def read_record(path: Path, *, heads: bool = True) -> TrialRecord:
    """The record that a trial wrote.

    Args:
        path: of the record.
        heads: with those that version 0.2.0 wrote into it: they are more than all the rest.

    Raises:
        StudyError: the file is missing, damaged, or of another schema version.
    """
    return TrialRecord.from_json(read_bytes(path), str(path), heads=heads)


def heads_path(path: Path) -> Path:
    """Where the heads of the record at `path` are."""
    return path.with_suffix(".heads.parquet")


def write_steps(path: Path, steps: Sequence[StepRow]) -> None:
    """Replace `path` by the steps of all finished tasks, one JSON object a line, atomically."""
    write_atomically(path, b"".join(map(step_line, steps)))


def step_line(step: StepRow) -> bytes:
    """A step as a line of its file, with a checksum."""
    return sealed_line(step.model_dump_json().encode()) + b"\n"


def step_of(line: bytes) -> StepRow:
    """The step of a line, without its end.

    Raises:
        ValueError: in one line, why it is none.
    """
    try:
        return StepRow.model_validate(parse_json(unsealed_line(line)))
    except ValidationError as error:
        raise ValueError(one_line(error)) from None
    except DocumentError as error:
        raise ValueError(error.reason) from None


def read_steps(path: Path) -> tuple[StepRow, ...]:
    """The steps that a trial wrote.

    Raises:
        StudyError: the file is missing, or a line of it is damaged.
    """
    steps = []
    for number, line in enumerate(read_bytes(path, MAX_GROWN_BYTES).splitlines(), start=1):
        try:
            steps.append(step_of(line))
        except ValueError as error:
            raise StudyError(f"{path}, line {number}: {error}; restore the file or run the trial again") from None
    return tuple(steps)
