"""Rows -> examples: both fields are text, there is something to learn, and no split is larger than can be learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from seekr_tune.config import Split, StreamConfig
from seekr_tune.config.messages import shown
from seekr_tune.data.task import Example
from seekr_tune.errors import DataError

MOST_ROWS = 1_000_000
"""Rows of one split. Each is kept as text, as tokens and as a key that tells leaks, in every process that learns."""
MOST_TEXT = 1 << 30
"""Bytes of one split's prompts and answers as UTF-8."""
_SHOWN = 200  # letters of the names of fields in a message


@dataclass(frozen=True)
class Wanted:
    """What is read of a split.

    Attributes:
        task: its name.
        split: its name.
        prompt, answer: fields of a row.
        limit: rows from the start; None: all.
    """

    task: str
    split: Split
    prompt: str
    answer: str
    limit: int | None

    @classmethod
    def of(cls, stream: StreamConfig, task: str, split: Split) -> Wanted:
        """What an experiment asks for."""
        return cls(task, split, stream.columns.prompt, stream.columns.answer, stream.limits.of(split))

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that are read, each once."""
        return tuple(dict.fromkeys((self.prompt, self.answer)))

    def role(self, column: str) -> str:
        """The setting that names a field."""
        return "prompt" if column == self.prompt else "answer"

    def require_rows(self, rows: int, where: str) -> None:
        """Refuse more rows than a split may have; those behind the limit do not count, for they are not read."""
        if (rows if self.limit is None else min(rows, self.limit)) > MOST_ROWS:
            raise DataError(
                f"{where}: has more than {MOST_ROWS:,} rows, the most of a split; set stream.limits.{self.split} to at "
                "most that, or divide them into several tasks"
            )

    def require_text(self, size: int, where: str) -> None:
        """Refuse more text than a split may have."""
        if size > MOST_TEXT:
            raise DataError(
                f"{where}: prompts and answers have more than {MOST_TEXT >> 30} GiB of text, the most of a split; set "
                f"stream.limits.{self.split} to fewer rows, or divide them into several tasks"
            )


def examples_of(rows: Iterator[Any], wanted: Wanted, where: str) -> Iterator[Example]:
    """Checked examples, up to the split's limit; rows are counted from 1.

    Args:
        rows: mappings of fields, or what a file holds in their place; those behind the limit are not asked for.
        wanted: what is read.
        where: the file, for messages.

    Raises:
        DataError: a row that cannot be learned from, or too many of them.
    """
    size = 0
    for number, row in enumerate(islice(rows, wanted.limit), start=1):
        wanted.require_rows(number, where)
        place = f"{where}, row {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{place}: must be a mapping of fields, but is a {type(row).__name__}; give an object")
        prompt, answer = _text(row, wanted.prompt, wanted, place), _text(row, wanted.answer, wanted, place)
        for role, text in (("prompt", prompt), ("answer", answer)):
            if not text.strip():
                raise DataError(
                    f"{place}: the {role} is empty, so nothing can be learned from it; fill or drop the row"
                )
            size += len(_encoded(text, getattr(wanted, role), place))
        wanted.require_text(size, where)
        yield Example(prompt, answer)


def _text(row: Mapping[str, Any], column: str, wanted: Wanted, place: str) -> str:
    if column not in row:
        raise no_column(column, list(row), wanted, place, mend_of_table(row, wanted))
    value = row[column]
    if not isinstance(value, str):
        raise DataError(f"{place}: field {column!r} must be text, but is {_told(value, mend_of_table(row, wanted))}")
    return value


def mend_of_table(value: Mapping[str, Any], wanted: Wanted) -> str | None:
    """What to do with an object that is a whole table: a list of rows inside, or one list for each field."""
    if all(isinstance(value.get(column), list | dict) for column in wanted.columns):
        return "it has the values of all rows in one field; write one object for each row"
    for key, items in value.items():
        if isinstance(items, list) and items and isinstance(items[0], dict) and wanted.prompt in items[0]:
            return f"write the list that stands in its field {shown(key)}, and nothing around it"
    return None


def no_column(column: str, there: list[str], wanted: Wanted, place: str, mend: str | None = None) -> DataError:
    """The refusal of a row or a table that lacks a field."""
    names = ", ".join(" ".join(str(name).split()) for name in there) or "none"
    names = names if len(names) <= _SHOWN else f"{names[:_SHOWN]}..."
    mend = mend or f"rename it or set stream.columns.{wanted.role(column)}"
    return DataError(f"{place}: no field {column!r} (fields: {names}); {mend}")


def _told(value: object, mend: str | None) -> str:
    """A value that is no text, and what to do. A number is not taken as text: 007, 1.0 and 1e5 lose how they stood."""
    kind = f"a {type(value).__name__}"
    if isinstance(value, bool | int | float):
        return f"{kind}, {shown(value)}; write a string, as it shall be learned"
    return f"{kind}; {mend or 'write a string'}"


def _encoded(text: str, column: str, place: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{place}: field {column!r} holds half a surrogate pair, which is no text; mend it") from None
