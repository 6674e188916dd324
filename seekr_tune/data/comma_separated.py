"""CSV -> rows: every field is the text that stands there; `None`, `NA`, `007` and `2020-01-01` too."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seekr_tune.data.contents import require_format
from seekr_tune.data.lines import lines_of
from seekr_tune.data.rows import Wanted, no_column
from seekr_tune.documents import MAX_BYTES, opened
from seekr_tune.errors import DataError

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def csv_rows(path: Path, wanted: Wanted) -> Iterator[dict[str, str]]:
    """Rows of the wanted columns, as far as they are asked for; the first line names the columns (RFC 4180).

    Raises:
        DataError: it is no CSV, no UTF-8, it lacks a column, or a row has more fields than the header.
    """
    with opened(path) as file, _long_fields():
        require_format(path, file, "CSV")
        reader = csv.reader((line for _, line in lines_of(path, file)), strict=True)
        with _csv_errors(path, reader):
            header = next((row for row in reader if row), [])
            places = {column: _place(header, column, wanted, path) for column in wanted.columns}
            for row in reader:
                if len(row) > len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: has {len(row)} fields, and the header {len(header)}; put a "
                        'field that holds a comma into quotes ("), and name every column'
                    )
                if row:  # a blank line is no row
                    yield {column: row[place] for column, place in places.items() if place < len(row)}


def _place(header: list[str], column: str, wanted: Wanted, path: Path) -> int:
    if header.count(column) > 1:
        raise DataError(f"{path}: there are two columns {column!r}; drop one of them")
    if column in header:
        return header.index(column)
    role = f"stream.columns.{wanted.role(column)}"
    hint = f"the first line must name the columns: add {','.join(wanted.columns)}, or set {role}"
    for sign, name in _OTHER_SEPARATORS.items():
        if column in [part.strip().strip('"') for part in ",".join(header).split(sign)]:
            hint = f"its fields are separated by {name}; write it again with commas"
    if column in map(str.strip, header):
        hint = "there is a blank beside a comma of the first line; drop it"
    raise no_column(column, header, wanted, str(path), hint)


@contextmanager
def _long_fields() -> Iterator[None]:
    """Fields may be as long as a line: 131,072 letters are fewer than some prompts have."""
    before = csv.field_size_limit(MAX_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@contextmanager
def _csv_errors(path: Path, reader: Any) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        mend = 'write a quote (") inside a quoted field twice, and close each field that begins with one'
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({error}); {mend}") from None
