"""What `save_to_disk` of Hugging Face `datasets` wrote -> rows, without that library.

Its Arrow files hold the text; the format that the data set was set to give (numpy, pandas, some columns) is a wish for
programs and is not looked at.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seekr_tune.data.columns import arrow_errors, require_text_columns, rows_of
from seekr_tune.data.contents import require_format
from seekr_tune.data.rows import Wanted
from seekr_tune.documents import opened, read_json
from seekr_tune.errors import DataError, DocumentError

_MEND = "write it again with DatasetDict.save_to_disk"
_STATE = "state.json"


def arrow_files(directory: Path) -> list[Path]:
    """The files of one saved split, in their order; none lies elsewhere.

    Raises:
        DataError: the split's own list of them cannot be read.
    """
    try:
        names = [entry["filename"] for entry in read_json(directory / _STATE)["_data_files"]]
    except DocumentError as error:
        raise DataError(f"{directory / _STATE}: {error.reason}; {_MEND}") from None
    except (LookupError, TypeError):
        raise DataError(f"{directory / _STATE}: does not name the files of the data set; {_MEND}") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".arrow"):
            raise DataError(f"{directory / _STATE}: names the file {name!r}, which is no Arrow file beside it; {_MEND}")
    return [directory / name for name in names]


def arrow_rows(path: Path, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Rows of the wanted columns of one Arrow file, as far as they are asked for.

    Raises:
        DataError: it is no such file, it cannot be read, it lacks a column, or it has more than a split may have.
    """
    import pyarrow
    import pyarrow.ipc

    with opened(path) as file:
        require_format(path, file, "Arrow")
        content = pyarrow.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    with arrow_errors(path, "Arrow", _MEND):
        schema = pyarrow.ipc.open_stream(content).schema
        require_text_columns(schema, wanted, path)
        for message in pyarrow.ipc.MessageReader.open_stream(content):
            if _is_compressed(message):
                raise DataError(f"{path}: is compressed inside, so nobody knows how large it is; {_MEND}")
        fields = [schema.get_field_index(name) for name in wanted.columns]
        options = pyarrow.ipc.IpcReadOptions(included_fields=fields)
        yield from rows_of(pyarrow.ipc.open_stream(content, options=options), wanted, path, checked=True)


def _is_compressed(message: Any) -> bool:
    """Whether the buffers of a `pyarrow.ipc.Message` are compressed, which pyarrow tells nobody before it unpacks them.

    Source: Message.fbs of Arrow: `Message.header` is field 2, `DictionaryBatch.data` 1, `RecordBatch.compression` 3.
    """
    if message.type not in ("record batch", "dictionary"):
        return False
    content = message.metadata.to_pybytes()
    batch = _table(content, _table(content, 0), 2)
    if message.type == "dictionary":
        batch = _table(content, batch, 1)
    return _slot(content, batch, 3) != 0


def _table(content: bytes, table: int, field: int | None = None) -> int:
    """Where the table lies that a field of a table of FlatBuffers (or, without a field, an offset) points to."""
    place = table if field is None else _slot(content, table, field)
    return place + int(struct.unpack_from("<I", content, place)[0])


def _slot(content: bytes, table: int, field: int) -> int:
    """Where the value of a field of a table of FlatBuffers lies; 0: it has none."""
    fields = table - struct.unpack_from("<i", content, table)[0]
    entry = 4 + 2 * field
    if entry >= struct.unpack_from("<H", content, fields)[0]:
        return 0
    offset = int(struct.unpack_from("<H", content, fields + entry)[0])
    return table + offset if offset else 0
