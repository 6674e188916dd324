"""The proof that a sample is gone: every file is read, and searched for the bytes that the sample would leave.

Looked for are its token ids, as 64-bit and 32-bit numbers and as JSON, and its prompt, plain and as JSON. Parquet is
compressed, so its text is read instead of its bytes. What a teacher said about the sample has no form of its own that
could be looked for: it lies beside the sample's entry in a memory, and no entry is left.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seekr_tune.access import access_told, walked

_SHORTEST_TEXT = 16
_FEWEST_TOKENS = 4
"""Anything shorter is found by chance."""


@dataclass(frozen=True)
class Trace:
    """Bytes of a sample that were found.

    Attributes:
        path: the file.
        what: what they are.
    """

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path} ({self.what})"


@dataclass(frozen=True)
class Search:
    """What reading all files has shown.

    Attributes:
        files, num_bytes: that were read.
        traces: what was found.
    """

    files: int
    num_bytes: int
    traces: tuple[Trace, ...]


def patterns(tokens: Iterable[Sequence[int]], prompts: Iterable[str]) -> dict[bytes, str]:
    """What samples would leave in a file, each with its name."""
    found: dict[bytes, str] = {}
    for ids in tokens:
        if len(ids) >= _FEWEST_TOKENS:
            found |= {np.array(ids, dtype=kind).tobytes(): "token ids" for kind in ("<i8", "<i4")}
            found |= {text.strip("[]").encode(): "token ids" for text in (json.dumps(ids), _tight(ids))}
    for prompt in prompts:
        if len(prompt) >= _SHORTEST_TEXT:
            texts = (prompt, json.dumps(prompt)[1:-1], json.dumps(prompt, ensure_ascii=False)[1:-1])
            found |= {text.encode(): "prompt" for text in texts}
    return found


def search(directories: Iterable[Path], wanted: dict[bytes, str], but: Path) -> Search:
    """Read every file below some directories.

    Args:
        directories: where; they need not exist. What vanishes meanwhile is passed over, links are not followed.
        wanted: what `patterns` returned.
        but: a file that is not read.

    Raises:
        AccessError: this user may not read all of them.
    """
    files, num_bytes, traces = 0, 0, []
    for path in sorted({path for directory in directories for path in _files(directory)} - {but}):
        try:
            with access_told(path):
                traces += [Trace(path, what) for what in _found_in(path, wanted)]
            num_bytes += path.stat().st_size
            files += 1
        except FileNotFoundError:
            continue
    return Search(files, num_bytes, tuple(traces))


def _files(directory: Path) -> Iterator[Path]:
    yield from (path for path in walked(directory) if path.is_file() and not path.is_symlink())


def _found_in(path: Path, wanted: dict[bytes, str]) -> list[str]:
    """What of it stands in a file, each thing once."""
    found = {what for text in _texts(path) for pattern, what in wanted.items() if pattern in text}
    if path.stat().st_size:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found |= {what for pattern, what in wanted.items() if content.find(pattern) >= 0}
    return sorted(found)


def _texts(path: Path) -> Iterator[bytes]:
    """The text columns of a Parquet file."""
    if path.suffix != ".parquet":
        return
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for column in batch.columns:
                    if pa.types.is_string(column.type):
                        yield "\n".join(text or "" for text in column.to_pylist()).encode()
    except pa.ArrowException:  # damaged; its bytes are searched all the same
        return


def _tight(ids: Sequence[int]) -> str:
    return json.dumps(ids, separators=(",", ":"))
