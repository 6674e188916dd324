"""Task files of every layout, and what a stream makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from seekr_tune.config import Config, Split
from seekr_tune.data.sources import load_stream
from seekr_tune.errors import DataError

Content = str | bytes | Callable[[Path], object]


def table(**columns: Any) -> Callable[[Path], None]:
    """Writes a Parquet file."""
    return lambda path: pyarrow.parquet.write_table(pyarrow.table(columns), path)


def read(folder: Path, source: str, files: Mapping[str, Content], split: Split = "train", **stream: Any) -> list[Any]:
    """Prompts and answers of the task `t` under a folder, after its files were written."""
    for name, content in files.items():
        path = folder / "t" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    config = Config.model_validate({"stream": {"source": source, "root": str(folder), "tasks": ("t",), **stream}})
    return [(row.prompt, row.answer) for row in load_stream(config, (split,))[0].splits[split]]


def refusal(folder: Path, source: str, files: Mapping[str, Content], split: Split = "train", **stream: Any) -> str:
    """The one line that refuses them."""
    with pytest.raises(DataError) as caught:
        read(folder, source, files, split, **stream)
    assert "\n" not in str(caught.value)
    return str(caught.value)
