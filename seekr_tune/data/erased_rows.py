"""Rows that were erased from a study: they are not learned again, whether the data still hold them or not."""

from __future__ import annotations

from collections.abc import Sequence

from seekr_tune.config import ErasedRows
from seekr_tune.data.task import Example, digest_of_examples
from seekr_tune.errors import DataError


def without_erased(task: str, examples: Sequence[Example], erased: ErasedRows) -> tuple[Example, ...]:
    """The rows of a train split that stay.

    Args:
        task: its name.
        examples: the rows that the data hold now, up to the cap of the split.
        erased: what was erased.

    Raises:
        DataError: the other rows are not what they were, so nobody knows which ones were meant.
    """
    rows = tuple(row for row in range(erased.size) if row not in erased.rows)
    still_there = tuple(examples[row] for row in rows) if len(examples) >= erased.size else ()
    # Below a cap, the rows behind it move up when the data lose some.
    taken_out = tuple(examples[: len(rows)])
    for left in (still_there, taken_out):
        if len(left) == len(rows) and erased.rest in (None, digest_of_examples(left)):
            return left
    raise DataError(
        f"task {task!r}: rows were erased from this study, and the others are not what they were then; put the train "
        "split back as it was, with or without the erased rows"
    )
