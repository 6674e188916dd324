"""Rows of one run that are too many to be held: columns in a Parquet file, read when they are needed.

Who refers to the file keeps its SHA-256, so that a flipped bit is not taken for a result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from seekr_tune.documents import read_bytes
from seekr_tune.errors import DocumentError, StudyError
from seekr_tune.files import write_atomically


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
