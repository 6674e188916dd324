"""Batches of Arrow -> rows: two columns of text, a few rows at a time, nothing guessed.

Columns of another type are refused, labels and dates too: a table does not say how they were written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seekr_tune.data.rows import Wanted, no_column
from seekr_tune.errors import DataError

_SLICE = 1024  # rows that are Python objects at a time


def require_text_columns(schema: Any, wanted: Wanted, path: Path) -> None:
    """Refuse a table (`pyarrow.Schema`) without the wanted columns, or where they hold no text.

    Raises:
        DataError: the column, what it is, and how to mend it.
    """
    for column in wanted.columns:
        if column not in schema.names:
            raise no_column(column, schema.names, wanted, str(path))
        if schema.names.count(column) > 1:
            raise DataError(f"{path}: there are two columns {column!r}; drop one of them")
        kind = schema.field(column).type
        if not _is_text(kind):
            raise DataError(
                f"{path}: column {column!r} must be text, but is {' '.join(str(kind).split())[:60]}; write its values "
                "as strings, as they shall be learned"
            )


def rows_of(batches: Iterable[Any], wanted: Wanted, path: Path, checked: bool = False) -> Iterator[dict[str, Any]]:
    """The rows of `pyarrow.RecordBatch`es as mappings of the wanted columns.

    Args:
        batches: of one file.
        wanted: what is read of it.
        path: of the file, for messages.
        checked: look whether the texts lie inside their buffers: those of a damaged Arrow file may point anywhere.

    Raises:
        DataError: a batch alone has more text than a split may have; it is not unfolded.
    """
    for batch in _up_to(batches, wanted.limit):
        batch.validate(full=checked)
        columns = [batch.column(batch.schema.get_field_index(name)) for name in wanted.columns]
        wanted.require_text(sum(map(_size, columns)), str(path))
        for start in range(0, batch.num_rows, _SLICE):
            parts = [column.slice(start, _SLICE) for column in columns]
            texts = [(part.dictionary_decode() if _is_coded(part) else part).to_pylist() for part in parts]
            for values in zip(*texts, strict=True):
                yield dict(zip(wanted.columns, values, strict=True))


def _up_to(batches: Iterable[Any], limit: int | None) -> Iterator[Any]:
    """The batches without the rows behind the limit, which are not looked at."""
    left = limit
    for batch in batches:
        yield batch if left is None else batch.slice(0, left)
        if left is not None:
            left -= min(left, batch.num_rows)
            if left == 0:
                return


@contextmanager
def arrow_errors(path: Path, kind: str, mend: str) -> Iterator[None]:
    """Turn what pyarrow raises into one line; that some text is none is only found when it is used."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, struct.error) as error:
        raise DataError(f"{path}: not a readable {kind} file ({one_line(error)}); {mend}") from None


def one_line(error: BaseException) -> str:
    """What a library says, short enough for a message."""
    return " ".join(str(error).split())[:200]


def _is_coded(column: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_dictionary(column.type))


def _is_text(kind: Any) -> bool:
    import pyarrow

    value = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    return value in (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view())


def _size(column: Any) -> int:
    """Bytes of a column's text when each row has its own."""
    import pyarrow
    import pyarrow.compute

    values = column.dictionary if _is_coded(column) else column
    if values.type == pyarrow.string_view():
        values = values.cast(pyarrow.large_string())
    lengths = pyarrow.compute.binary_length(values)
    if _is_coded(column):
        lengths = lengths.take(column.indices)
    return pyarrow.compute.sum(lengths.cast(pyarrow.int64())).as_py() or 0
