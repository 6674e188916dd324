"""Where splits lie: each is there once, in whole, and as files; a folder or a pipe is none."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from seekr_tune.config import Config, ModelConfig, Split
from seekr_tune.config.reading import read_yaml
from seekr_tune.data.sources import has_split
from seekr_tune.errors import ConfigError, DataError, ModelError
from seekr_tune.models.loading import model_location

from .files import Content, read, refusal, table

LINES = '{"prompt": "p", "answer": "a"}\n'
TABLE = table(prompt=["p"], answer=["a"])
CSV = "prompt,answer\np,a\n"


@pytest.mark.parametrize(
    ("split", "first", "second"),
    [
        ("train", "train.parquet", "train.jsonl"),
        ("train", "train-00000-of-00001.parquet", "train.csv"),
        ("train", "train.jsonl", "train.json"),
        ("train", "train.jsonl", "train-00000-of-00001.jsonl"),
        ("train", "train.csv", "data/train-00000-of-00001.parquet"),
        ("eval", "validation.jsonl", "dev.jsonl"),
        ("eval", "eval.parquet", "validation.jsonl"),
        ("test", "test.csv", "data/test.csv"),
    ],
)
def test_a_split_that_is_there_twice_is_not_taken(tmp_path: Path, split: Split, first: str, second: str) -> None:
    contents: dict[str, Content] = {".parquet": TABLE, ".csv": CSV, ".json": f"[{LINES}]", ".jsonl": LINES}
    files = {name: contents[Path(name).suffix] for name in (first, second)}
    (tmp_path / "t" / "data").mkdir(parents=True)
    assert f"more than once, as {first} and {second}" in refusal(tmp_path, "datasets", files, split)
    config = Config.model_validate({"stream": {"source": "datasets", "root": str(tmp_path), "tasks": ("t",)}})
    with pytest.raises(DataError, match="more than once"):
        has_split(config, "t", split)
    (tmp_path / "t" / second).unlink()
    assert read(tmp_path, "datasets", {}, split) == [("p", "a")] and has_split(config, "t", split)


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002.jsonl"],
        ["train-00001-of-00002.jsonl", "train-00002-of-00002.jsonl"],
        ["train-00000-of-00001.jsonl", "train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"],
        ["train-00000-of-00001-0a1b.jsonl", "train-00000-of-00001-2c3d.jsonl"],
        ["train-00000-of-00001.jsonl", "train-old.jsonl"],
        ["train-00000-of-00000.jsonl"],
        ["train-00000-of-99999.jsonl"],
    ],
)
def test_parts_that_are_not_all_there_once_are_not_taken(tmp_path: Path, names: list[str]) -> None:
    line = refusal(tmp_path, "datasets", dict.fromkeys(names, LINES))
    assert "are not the" in line and names[0] in line


def test_parts_that_are_all_there_are_read_in_their_order(tmp_path: Path) -> None:
    parts = {f"train-{n:05d}-of-00003-a{n}.jsonl": LINES.replace('"a"', f'"{n}"') for n in (2, 0, 1)}
    assert [answer for _, answer in read(tmp_path / "1", "datasets", parts)] == ["0", "1", "2"]
    assert len(read(tmp_path / "2", "datasets", {"train-a.jsonl": LINES, "train-b.jsonl": LINES})) == 2


READERS = [
    ("trace_json", "train.json"),
    ("jsonl", "train.jsonl"),
    ("parquet", "train.parquet"),
    ("datasets", "train.csv"),
    ("datasets", "train.json"),
    ("datasets", "train.parquet"),
]


@pytest.mark.parametrize(("source", "name"), READERS)
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, source: str, name: str) -> None:
    assert "is a folder, not a file" in refusal(tmp_path / "1", source, {name: Path.mkdir})
    assert "is a pipe, not a file" in refusal(tmp_path / "2", source, {name: os.mkfifo})
    if sys.platform == "linux":
        assert "link out of stream.root" in refusal(
            tmp_path / "3", source, {name: lambda path: path.symlink_to("/dev/zero")}
        )


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t").mkdir()
    monkeypatch.chdir(tmp_path / "t")  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("train.json")
        assert "is a socket, not a file" in refusal(tmp_path, "trace_json", {})


def test_pieces_of_a_saved_data_set_that_are_no_files(tmp_path: Path) -> None:
    files: dict[str, Content] = {"train/dataset_info.json": "{}", "train/state.json": os.mkfifo}
    assert "state.json: is a pipe, not a file" in refusal(tmp_path, "datasets", files)
    (tmp_path / "t/train/state.json").unlink()
    files = {"train/state.json": '{"_data_files": [{"filename": "a.arrow"}]}', "train/a.arrow": os.mkfifo}
    assert "a.arrow: is a pipe, not a file" in refusal(tmp_path, "datasets", files)


@pytest.mark.parametrize(
    ("source", "name", "told"),
    [
        ("datasets", "train.csv.gz", "is compressed, and only plain files are read; unpack it (to train.csv)"),
        ("datasets", "data/train-00000-of-00001.jsonl.zst", "unpack it (to train-00000-of-00001.jsonl)"),
        ("jsonl", "train.jsonl.gz", "is compressed"),
        ("datasets", "train.tsv", "is separated by tabs; write it again with commas, as train.csv"),
        ("trace_json", "train.tsv", "as train.csv, and set stream.source to datasets"),
        ("trace_json", "train.jsonl", "is not read by stream.source trace_json; set stream.source to jsonl"),
        ("parquet", "train.csv", "set stream.source to datasets"),
        ("datasets", "train.xlsx", "is of no kind that is read; write it as one of .parquet, .jsonl, .json, .csv"),
    ],
)
def test_a_split_in_a_form_that_is_not_read_is_not_called_missing(
    tmp_path: Path, source: str, name: str, told: str
) -> None:
    line = refusal(tmp_path, source, {name: "x"})
    assert f"t/{name}: " in line and told in line and "no data set split" not in line and "no such file" not in line


def test_a_link_to_nothing_is_called_that(tmp_path: Path) -> None:
    """The folder, the task and the file; and what lies behind such a link."""
    gone = f"to {tmp_path / 'gone'}, which is not there; mend the link"
    (tmp_path / "root" / "t").mkdir(parents=True)
    for source, name in (("trace_json", "train.json"), ("datasets", "train.jsonl"), ("parquet", "train.parquet")):
        link = tmp_path / "root" / "t" / name
        link.symlink_to(tmp_path / "gone")
        assert f"t/{name}: is a link {gone}" in refusal(tmp_path / "root", source, {})
        link.unlink()
    (tmp_path / "root" / "t").rmdir()
    (tmp_path / "root" / "t").symlink_to(tmp_path / "gone")
    assert f"stream.tasks: {tmp_path / 'root' / 't'}: is a link {gone}" in refusal(tmp_path / "root", "jsonl", {})
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert f"stream.root: {tmp_path / 'link'}: is a link {gone}" in refusal(tmp_path / "link", "jsonl", {})
    behind = refusal(tmp_path / "link" / "a" / "b", "jsonl", {})
    assert f"lies behind {tmp_path / 'link'}, a link {gone}" in behind
    with pytest.raises(ModelError, match="is a link to .*gone, which is not there"):
        model_location(ModelConfig(path=str(tmp_path / "link")))
    with pytest.raises(ConfigError, match="is a link to .*gone, which is not there"):
        read_yaml(tmp_path / "link")


def test_a_file_in_the_place_of_a_saved_data_set(tmp_path: Path) -> None:
    assert "no data set split named train (the folder holds: train)" in refusal(tmp_path, "datasets", {"train": LINES})
