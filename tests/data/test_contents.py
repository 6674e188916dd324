"""A file that is something else than its name says is called what it is, by every reader that meets it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from .files import refusal

ROWS = [{"prompt": "say a", "answer": "a"}, {"prompt": "say b", "answer": "b"}]
LIST = json.dumps(ROWS).encode()
LINES = "\n".join(map(json.dumps, ROWS)).encode()
CSV = b"prompt,answer\nsay a,a\nsay b,b\n"


def _zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("train.json", LIST)
    return buffer.getvalue()


def _parquet() -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


def _feather() -> bytes:
    buffer = io.BytesIO()
    pyarrow.feather.write_feather(pyarrow.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


PARQUET = _parquet()
EVERYWHERE = [
    (b"", "is empty", "copy it again"),
    (gzip.compress(LIST), "is compressed with gzip", "unpack it"),
    (bz2.compress(LIST), "is compressed with bzip2", "unpack it"),
    (lzma.compress(LIST), "is compressed with xz", "unpack it"),
    (_zipped(), "is a zip archive or an Excel sheet", "unpack it"),
    (LIST.decode().encode("utf-16"), "is text in UTF-16", "save it as UTF-8"),
    (LIST.decode().encode("utf-16-le"), "is text in UTF-16", "save it as UTF-8"),
    (LIST.decode().encode("utf-32"), "is text in UTF-32", "save it as UTF-8"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "is a pointer of Git LFS", "git lfs pull"),
    (b"\n<!DOCTYPE html>\n<html>Sign in</html>", "is a web page", "download the file itself"),
    (b"<?xml version='1.0'?><Error/>", "is a web page", "download the file itself"),
    (_feather(), "is an Arrow file", "write it as Parquet"),
    (b"\x80\x04\x95" + b"\0" * 20, "is a pickle", "never opened"),
    (b"SQLite format 3\0" + b"\0" * 20, "is an SQLite data base", "export its rows"),
]
READERS = [
    ("trace_json", "train.json"),
    ("jsonl", "train.jsonl"),
    ("parquet", "train.parquet"),
    ("datasets", "train.json"),
    ("datasets", "train.csv"),
]


@pytest.mark.parametrize(("source", "name"), READERS)
def test_what_is_no_data(tmp_path: Path, source: str, name: str) -> None:
    for content, kind, mend in EVERYWHERE:
        line = refusal(tmp_path, source, {name: content})
        assert f"{name}: {kind}" in line and mend in line


@pytest.mark.parametrize(
    ("source", "name", "content", "says"),
    [
        ("trace_json", "train.json", PARQUET, "is a Parquet file, not JSON; give it the suffix .parquet"),
        ("jsonl", "train.jsonl", PARQUET, "is a Parquet file, not JSON lines"),
        ("datasets", "train.csv", PARQUET, "is a Parquet file, not CSV"),
        ("parquet", "train.parquet", LIST, "is a JSON list, not Parquet; give it the suffix .json"),
        ("parquet", "train.parquet", LINES, "is JSON lines, not Parquet; give it the suffix .jsonl"),
        ("datasets", "train.csv", json.dumps(ROWS, indent=1), "is a JSON list, not CSV"),
        ("parquet", "train.parquet", CSV, "is CSV, not Parquet; give it the suffix .csv"),
        ("trace_json", "train.json", CSV, "is CSV, not JSON"),
        ("jsonl", "train.jsonl", LIST, "name the file .json and set stream.source to trace_json"),
        ("trace_json", "train.json", LINES, "set stream.source to jsonl and name it .jsonl"),
        ("parquet", "train.parquet", b"\0garbage" * 9, "is something else, not Parquet; write it again"),
        ("parquet", "train.parquet", PARQUET[:-9], f"is cut short after {len(PARQUET) - 9} bytes"),
        ("trace_json", "train.json", b" \n" * 9, "holds nothing but blanks"),
        (
            "trace_json",
            "train.json",
            json.dumps({"v": 1, "data": ROWS}),
            "write the list that stands in its field 'data'",
        ),
        ("jsonl", "train.jsonl", json.dumps({"data": ROWS}), "write the list that stands in its field 'data'"),
        ("datasets", "train.json", json.dumps({"data": ROWS}), "write the list that stands in its field 'data'"),
        ("trace_json", "train.json", '{"prompt": ["a"], "answer": ["b"]}', "write one object for each row"),
        ("datasets", "train.json", '{"prompt": {"0": "a"}, "answer": {"0": "b"}}', "write one object for each row"),
        ("trace_json", "train.json", json.dumps(ROWS[0]), "put the rows into [ ]"),
    ],
)
def test_data_of_another_layout(tmp_path: Path, source: str, name: str, content: bytes | str, says: str) -> None:
    assert says in refusal(tmp_path, source, {name: content})
