"""Parquet files -> rows. A megabyte of it can stand for many gigabytes: nothing is unfolded before it is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seekr_tune.data.columns import arrow_errors, require_text_columns, rows_of
from seekr_tune.data.contents import require_format
from seekr_tune.data.rows import Wanted
from seekr_tune.documents import opened

_BATCH_ROWS = 1 << 16
_BATCH_BYTES = 1 << 26


def parquet_rows(path: Path, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Rows of the wanted columns, as far as they are asked for.

    Raises:
        DataError: it is no Parquet file, it cannot be read, it lacks a column, or it has more than a split may have.
    """
    import pyarrow.parquet

    columns = list(wanted.columns)
    with opened(path) as file:
        require_format(path, file, "Parquet")
        with arrow_errors(path, "Parquet", "write it again"):
            table = pyarrow.parquet.ParquetFile(file)
            if table.metadata.num_rows == 0:  # then it may have no columns
                return
            wanted.require_rows(table.metadata.num_rows, str(path))
            require_text_columns(table.schema_arrow, wanted, path)
            # read_dictionary: a value that is stored once and used a million times stays one
            table = pyarrow.parquet.ParquetFile(
                file, metadata=table.metadata, read_dictionary=columns, pre_buffer=False
            )
            batches = table.iter_batches(_batch_rows(table.metadata, wanted), columns=columns)
            yield from rows_of(batches, wanted, path)


def _batch_rows(metadata: Any, wanted: Wanted) -> int:
    """Rows of a batch that takes some megabytes at most, by what the file says of its columns."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    size: int = sum(column.total_uncompressed_size for column in columns if column.path_in_schema in wanted.columns)
    rows: int = metadata.num_rows
    return max(1, min(_BATCH_ROWS, wanted.limit or _BATCH_ROWS, _BATCH_BYTES * rows // max(size, 1)))
