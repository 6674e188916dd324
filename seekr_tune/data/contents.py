"""What a file really is, told from its first bytes: a compressed file, a web page, or a format of another name.

The readers of data look here first. What they would say by themselves ("not valid JSON") names the symptom.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO, Literal

from seekr_tune.errors import DataError

Format = Literal["JSON", "JSON lines", "CSV", "Parquet", "Arrow"]
"""What a reader expects."""

_HEAD = 4096
_UNPACK = "unpack it, and give the file that it holds"
_PARQUET = "give it the suffix .parquet, and set stream.source to parquet or datasets"
_BINARY: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (b"PK\x03\x04", "a zip archive or an Excel sheet", _UNPACK + ", or export the sheet as CSV"),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"\xff\xfe\0\0", "text in UTF-32", "save it as UTF-8"),
    (b"\0\0\xfe\xff", "text in UTF-32", "save it as UTF-8"),
    (b"\xff\xfe", "text in UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "save it as UTF-8"),
    (b"PARE", "an encrypted Parquet file", "write it again without encryption"),
    (b"ARROW1", "an Arrow file (Feather)", "write it as Parquet, JSON lines or CSV"),
    (b"SQLite format 3\0", "an SQLite data base", "export its rows as JSON lines or CSV"),
    (b"\x80\x04\x95", "a pickle of Python", "write its rows as JSON lines; pickles are never opened"),
    (b"\x80\x05\x95", "a pickle of Python", "write its rows as JSON lines; pickles are never opened"),
)
_PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<head")
_JSON = re.compile(rb'[\[{]\s*["{\[]')
_POINTER = b"version https://git-lfs.github.com/spec/"


def require_format(path: Path, file: BinaryIO, wanted: Format) -> None:
    """Refuse a file that is recognisably something else; it is left at its beginning.

    Args:
        path: for the message.
        file: open at its beginning.
        wanted: what a reader is about to read it as.

    Raises:
        DataError: what it is, and what to do.
    """
    head = file.read(_HEAD)
    file.seek(0)
    if not head:
        raise DataError(f"{path}: is empty; write the rows into it, or copy it again")
    if len(head) < _HEAD and not head.strip() and wanted != "JSON lines":  # blank lines are lines without a row
        raise DataError(f"{path}: holds nothing but blanks; write the rows into it, or copy it again")
    found = _anywhere(head) or _named_otherwise(head, wanted) or _cut(head, file, wanted)
    if found is not None:
        raise DataError(f"{path}: is {found[0]}, not {wanted}; {found[1]}")


def _anywhere(head: bytes) -> tuple[str, str] | None:
    """What is no data in any layout."""
    for start, kind, mend in _BINARY:
        if head.startswith(start):
            return kind, mend
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.lower().startswith(_PAGES):
        return "a web page", "it was saved in place of the data (a log-in or an error?); download the file itself"
    if text.startswith(_POINTER):
        return "a pointer of Git LFS", "fetch the data with `git lfs pull`"
    if len(head) >= 4 and head[:4:2].strip(b"\0") and not head[1:8:2].strip(b"\0"):
        return "text in UTF-16", "save it as UTF-8"
    return None


def _named_otherwise(head: bytes, wanted: Format) -> tuple[str, str] | None:
    """Data of another layout."""
    if head.startswith(b"PAR1"):
        return None if wanted == "Parquet" else ("a Parquet file", _PARQUET)
    if head.startswith(b"\xff\xff\xff\xff"):
        return None if wanted == "Arrow" else ("an Arrow stream", "write it as Parquet, JSON lines or CSV")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if wanted in ("Parquet", "Arrow", "CSV") and _JSON.match(text):
        layout, source = ("a JSON list", "trace_json") if text.startswith(b"[") else ("JSON lines", "jsonl")
        suffix = ".json" if text.startswith(b"[") else ".jsonl"
        return layout, f"give it the suffix {suffix}, and set stream.source to {source} or datasets"
    if wanted in ("JSON", "JSON lines", "Parquet") and _is_csv(text):
        return "CSV", "give it the suffix .csv, and set stream.source to datasets"
    return None


def _is_csv(text: bytes) -> bool:
    """Whether the first line is a header of names, and the next one has as many fields."""
    lines = text.splitlines()[:2]
    if len(lines) < 2 or any(sign in lines[0] for sign in b"{}[]:\0") or not lines[0].isascii():
        return False
    return any(0 < lines[0].count(sign) <= lines[1].count(sign) for sign in (b",", b";", b"\t"))


def _cut(head: bytes, file: BinaryIO, wanted: Format) -> tuple[str, str] | None:
    """A Parquet file says at its end what it holds."""
    if wanted != "Parquet":
        return None
    if not head.startswith(b"PAR1"):
        return "something else", "write it again as Parquet"
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 4, 0))
    end = file.read(4)
    file.seek(0)
    return None if size >= 12 and end == b"PAR1" else (f"cut short after {size} bytes", "copy it again")
