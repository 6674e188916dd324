"""The heads of one run: too many for its record, in a Parquet file beside it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from seekr_tune.errors import StudyError
from seekr_tune.records.columns import columns_of, read_columns, table_of
from seekr_tune.records.files import heads_path, read_record
from seekr_tune.records.rows import HeadRow


def read_heads(path: Path) -> pa.Table:
    """The heads of the record at `path`, with the fields of `HeadRow` as columns.

    The record vouches for its heads, and is written after them: of a run that has not ended well they may be newer than
    it says, and are left out until it is written.

    Raises:
        StudyError: the record or its heads are missing or damaged.
    """
    record, columns = read_record(path), columns_of(HeadRow)
    if record.heads or record.heads_sha256 is None:
        return table_of(record.heads, columns)
    try:
        return read_columns(heads_path(path), record.heads_sha256, columns)
    except StudyError:
        if record.status in ("finished", "pruned"):
            raise
        return table_of((), columns)
