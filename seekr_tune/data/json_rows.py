"""JSON -> rows: a list in one file, or one object a line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from seekr_tune.config.messages import shown
from seekr_tune.data.contents import require_format
from seekr_tune.data.lines import lines_of
from seekr_tune.data.rows import MOST_ROWS, Wanted, mend_of_table
from seekr_tune.documents import MAX_BYTES, opened, parse_json, read_json
from seekr_tune.errors import DataError, DocumentError

MOST_JSON = 500_000_000
"""Bytes of a list, which is read whole; lines are read one by one, and their file may have any size."""
_MOST_OBJECTS = 10 * MOST_ROWS
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def list_rows(path: Path, wanted: Wanted) -> Iterator[Any]:
    """The items of a JSON list.

    Raises:
        DataError: it is no list, or cannot be read.
    """
    with opened(path) as file:
        require_format(path, file, "JSON")
    try:
        rows = read_json(path, MOST_JSON, finite=False, pairs=_counted())
    except DocumentError as error:
        mend = error.mend
        if "Extra data" in error.reason:
            mend += "; set stream.source to jsonl and name it .jsonl, if it is one object a line"
        elif error.reason.startswith("has more than"):
            mend = "write it as JSON lines, one object a line, name it .jsonl, and set stream.source to jsonl"
        raise DataError(f"{path}: {error.reason}; {mend}") from None
    if not isinstance(rows, list):
        inside = mend_of_table(rows, wanted) if isinstance(rows, dict) else None
        kind = type(rows).__name__
        raise DataError(f"{path}: must hold a list of rows, but holds a {kind}; {inside or 'put the rows into [ ]'}")
    yield from rows


def line_rows(path: Path, wanted: Wanted) -> Iterator[Any]:
    """The values of JSON lines; blank lines are none.

    Raises:
        DataError: a line is not JSON, or cannot be read.
    """
    with opened(path) as file:
        require_format(path, file, "JSON lines")
        for number, line in _lines(path, file):
            row = _value(line, path, number)
            if isinstance(row, list) and row and isinstance(row[0], dict):
                mend = "give one object a line, or name the file .json and set stream.source to trace_json"
                raise DataError(f"{path}, row {number}: must be a mapping of fields, but is a list of them; {mend}")
            yield row


def any_rows(path: Path, wanted: Wanted) -> Iterator[Any]:
    """Rows as the `datasets` library reads JSON: a list, lines, or objects that are written over several lines each."""
    with opened(path) as file:
        start = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"["):
        yield from list_rows(path, wanted)
    elif start.split(b"\n", 1)[0].strip() == b"{":
        yield from _object_rows(path)
    else:
        yield from line_rows(path, wanted)


def _object_rows(path: Path) -> Iterator[Any]:
    """Objects with a field a line, as `jq` and `indent` of Python write them; each ends when its brackets do."""
    with opened(path) as file:
        first, size, depth = 1, 0, 0
        lines: list[str] = []
        for number, line in _lines(path, file):
            first = first if lines else number
            lines.append(line)
            size += len(line)
            outside = _STRING.sub("", line)
            depth += outside.count("{") - outside.count("}")
            if depth <= 0 or size > MAX_BYTES:
                yield _value("".join(lines), path, first)
                lines, size, depth = [], 0, 0
        if lines:
            yield _value("".join(lines), path, first)


def _lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, and their numbers."""
    return ((number, line) for number, line in lines_of(path, file) if line.strip())


def _value(text: str, path: Path, number: int) -> Any:
    try:
        return parse_json(text, finite=False, pairs=_row)
    except DocumentError as error:
        mend = "give one object a line" if error.reason.startswith("not valid JSON") else error.mend
        raise DataError(f"{path}, line {number}: {error.reason}; {mend}") from None


def _counted() -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Makes the objects of one file, as many as can be rows with some fields that are not read."""
    number = 0

    def row(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal number
        number += 1
        if number > _MOST_OBJECTS:
            raise DocumentError(f"has more than {_MOST_OBJECTS:,} objects", "")
        return _row(fields)

    return row


def _row(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of one JSON object, none of which may stand twice: Python would keep the last one and say nothing."""
    row = dict(fields)
    if len(row) < len(fields):
        names = [name for name, _ in fields]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} stands twice in the row {shown(row)}, drop one")
    return row
