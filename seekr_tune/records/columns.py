"""Rows as Arrow columns: of the ledger's tables, and of rows of one run that are too many to be held.

The columns come from the classes of their rows. A whole number is int64, also where it may be null; a field that takes
whole numbers and others is float64. Who refers to a file of columns keeps its SHA-256, so that a flipped bit is not
taken for a result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from seekr_tune.atomic_files import write_atomically
from seekr_tune.config.leaves import alternatives
from seekr_tune.documents import read_bytes
from seekr_tune.errors import DocumentError, StudyError
from seekr_tune.records.meaning import Meaning, meanings_of

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def columns_of(row: type[BaseModel], only: Collection[str] | None = None) -> dict[str, pa.Field]:
    """Arrow field of each field of a class of rows, in order; its metadata say the meaning and the unit.

    Args:
        row: its fields are numbers, texts, flags, or tuples or mappings of them.
        only: these fields; None: all.
    """
    hints, meanings = get_type_hints(row, include_extras=True), meanings_of(row)
    return {
        name: pa.field(name, _arrow_type(hints[name]), metadata=_metadata(meaning))
        for name, meaning in meanings.items()
        if only is None or name in only
    }


def table_of(rows: Sequence[object], columns: Mapping[str, pa.Field]) -> pa.Table:
    """Columns of the attributes of rows."""
    values = {name: [getattr(row, name) for row in rows] for name in columns}
    return pa.table(values, schema=pa.schema(list(columns.values())))


def write_columns(path: Path, table: pa.Table) -> str:
    """Replace `path` by the columns, atomically; the SHA-256 of the file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def read_columns(path: Path, sha256: str, columns: Mapping[str, pa.Field]) -> pa.Table:
    """What `write_columns` wrote.

    Raises:
        StudyError: the file is missing, is not the one with this SHA-256, or does not hold these columns.
    """
    mend = "restore the file or run the trial again"
    try:
        content = read_bytes(path)
    except DocumentError as error:
        raise StudyError(f"{path}: {error.reason}; {mend}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StudyError(f"{path}: does not match its checksum; {mend}")
    try:
        found = pq.read_table(pa.BufferReader(content), use_threads=False)
        return found.select(list(columns)).cast(pa.schema(list(columns.values())))
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StudyError(f"{path}: is damaged ({reason}); {mend}") from None


def _metadata(meaning: Meaning) -> dict[str, str] | None:
    told = {"meaning": meaning.formula, "unit": meaning.unit.replace("-", "")}
    return {key: text for key, text in told.items() if text} or None


def _arrow_type(annotation: Any) -> pa.DataType:
    types = set(alternatives(annotation)) - {type(None)}
    if types == {int, float}:
        return _TYPES[float]
    (kind,) = types
    if get_origin(kind) is tuple:
        return pa.list_(_arrow_type(get_args(kind)[0]))
    if get_origin(kind) is dict:
        return pa.map_(*map(_arrow_type, get_args(kind)))
    return _TYPES[kind]
