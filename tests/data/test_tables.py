"""Tables: two columns of text are read as they stand, whatever type holds them, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from seekr_tune.data import rows as rows_module

from .files import read, refusal, table

WORDS = ["None", "NA", "null", "007", "1e5", "2020-01-01", "true", "nan", 'x\ny, "q"', " a "]
PAIRS = [(f"say {number}", word) for number, word in enumerate(WORDS)]
PROMPTS = [prompt for prompt, _ in PAIRS]


def _saved(path: Path, data: datasets.Dataset, **given: Any) -> None:
    data.save_to_disk(str(path), **given)


def _arrow(table: pyarrow.Table, compression: str | None = None) -> Callable[[Path], None]:
    """A folder as `save_to_disk` leaves it, with any Arrow file inside."""

    def write(path: Path) -> None:
        path.mkdir()
        (path / "dataset_info.json").write_text("{}")
        (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
        options = pyarrow.ipc.IpcWriteOptions(compression=compression)
        with pyarrow.ipc.new_stream(str(path / "data.arrow"), table.schema, options=options) as writer:
            writer.write_table(table)

    return write


# --- what is text -------------------------------------------------------------------------------------------------


def test_every_word_of_a_csv_is_the_text_that_stands_there(tmp_path: Path) -> None:
    quoted = "".join(f'"{prompt}","{word.replace(chr(34), chr(34) * 2)}"\r\n' for prompt, word in PAIRS)
    assert read(tmp_path, "datasets", {"train.csv": f"prompt,answer\r\n\r\n{quoted}"}) == PAIRS
    bare = [pair for pair in PAIRS if "\n" not in pair[1]]
    lines = "".join(f"7,{prompt},{word}\n" for prompt, word in bare)
    assert read(tmp_path, "datasets", {"train.csv": f"\ufeffid,prompt,answer\n{lines}"}) == bare
    assert read(tmp_path, "datasets", {"train.csv": f"id,prompt,answer\n{lines}".replace("\n", "\r")}) == bare


def test_a_csv_may_have_long_fields_and_rows_without_the_last_ones(tmp_path: Path) -> None:
    prompt = "a\u2028" + "b" * 200_000
    rows = read(tmp_path, "datasets", {"train.csv": f'prompt,answer,note\n"{prompt}",c\nd,"e",f\n'})
    assert rows == [(prompt, "c"), ("d", "e")]


@pytest.mark.parametrize("kind", ["large_string", "string_view", "dictionary"])
@pytest.mark.parametrize("layout", ["parquet", "saved"])
def test_text_may_have_any_type_of_text(tmp_path: Path, kind: str, layout: str) -> None:
    column = pyarrow.array(WORDS)
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(getattr(pyarrow, kind)())
    columns = {"id": list(range(len(WORDS))), "prompt": PROMPTS, "answer": column}
    files = {"train.parquet": table(**columns)} if layout == "parquet" else {"train": _arrow(pyarrow.table(columns))}
    assert read(tmp_path, "datasets", files) == PAIRS
    assert read(tmp_path, "datasets", {}, limits={"train": 4}) == PAIRS[:4]


@pytest.mark.parametrize("given", ["numpy", "pandas", "arrow", "torch", "one column"])
def test_the_format_of_a_saved_data_set_is_not_looked_at(tmp_path: Path, given: str) -> None:
    data = datasets.Dataset.from_dict({"prompt": PROMPTS, "answer": WORDS})
    data = data.with_format("numpy", columns=["prompt"]) if given == "one column" else data.with_format(given)
    rows = read(tmp_path, "datasets", {"train": lambda path: _saved(path, data, num_shards=2)})
    assert rows == PAIRS and all(type(text) is str for row in rows for text in row)


def test_json_may_have_objects_of_several_lines_in_a_data_set(tmp_path: Path) -> None:
    objects = [{"prompt": prompt, "answer": word, "more": {"a": [{}], "b": '}"{'}} for prompt, word in PAIRS]
    for text in (
        "\n".join(json.dumps(row, indent=2) for row in objects),
        "\n".join(json.dumps(row, indent=0) for row in objects),
        "\n\n".join(map(json.dumps, objects)),
        json.dumps(objects, indent=1),
        "\ufeff" + "\r".join(map(json.dumps, objects)),
    ):
        assert read(tmp_path, "datasets", {"train.json": text}) == PAIRS


# --- what is not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["parquet", "saved"])
def test_columns_that_are_no_text(tmp_path: Path, layout: str) -> None:
    """A label of 1 may be meant as 1, as 1.0 or as the name of a class: a table does not say how it is written."""
    kinds = {"int64": [0, 1], "double": [0.5, 1.0], "bool": [True, False], "binary": [b"a", b"b"], "null": [None, None]}
    for kind, values in (kinds | {"list": [["a"], ["b"]], "struct": [{"a": 1}] * 2}).items():
        columns = {"prompt": ["p", "q"], "answer": values}
        folder = tmp_path / kind
        files = (
            {"train.parquet": table(**columns)} if layout == "parquet" else {"train": _arrow(pyarrow.table(columns))}
        )
        line = refusal(folder, "datasets", files)
        assert f"column 'answer' must be text, but is {kind}" in line and "as strings" in line


def test_tables_without_the_columns(tmp_path: Path) -> None:
    assert "train.parquet: no field 'answer' (fields: prompt, text); rename it or set stream.columns.answer" in refusal(
        tmp_path, "parquet", {"train.parquet": table(prompt=["p"], text=["a"])}
    )
    twice = pyarrow.Table.from_arrays([["p"], ["q"], ["a"]], names=["prompt", "prompt", "answer"])
    files = {"train.parquet": lambda path: pyarrow.parquet.write_table(twice, path)}
    assert "two columns 'prompt'" in refusal(tmp_path, "parquet", files)
    assert "row 2: field 'answer' must be text" in refusal(
        tmp_path, "parquet", {"train.parquet": table(prompt=["p", "q"], answer=["a", None])}
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("prompt;answer\na;b\n", "(fields: prompt;answer); its fields are separated by semicolons"),
        ("prompt\tanswer\na\tb\n", "separated by tabs"),
        ("say a,a\nsay b,b\n", "the first line must name the columns: add prompt,answer"),
        ("prompt, answer\na,b\n", "a blank beside a comma"),
        ("prompt,answer,prompt\na,b,c\n", "two columns 'prompt'"),
        ("prompt,answer\na,b\nc,d,e\n", "line 3: has 3 fields, and the header 2"),
        ("prompt,answer\na\n", "row 1: no field 'answer'"),
        ("prompt,answer\na,\n", "row 1: the answer is empty"),
        ('prompt,answer\na,"b\nc,d\n', "line 3: not valid CSV"),
        ('prompt,answer\n"a"b,c\n', "line 2: not valid CSV"),
        (b"prompt,answer\na,b\ncaf\xe9,b\n", "line 3: byte 3 is not UTF-8"),
        ("prompt,answer\n", "no rows"),
    ],
)
def test_csv_that_says_something_else(tmp_path: Path, content: str | bytes, says: str) -> None:
    assert says in refusal(tmp_path, "datasets", {"train.csv": content})


# --- what is damaged, or too much ---------------------------------------------------------------------------------


def test_saved_data_sets_that_are_damaged(tmp_path: Path) -> None:
    words = pyarrow.table({"prompt": PROMPTS, "answer": WORDS})
    pointing = pyarrow.Array.from_buffers(
        pyarrow.string(),
        2,
        [None, pyarrow.array([0, 1 << 30, 1], pyarrow.int32()).buffers()[1], pyarrow.py_buffer(b"a")],
    )
    damaged = pyarrow.table({"prompt": ["p", "q"], "answer": pointing})
    assert "not a readable Arrow file" in refusal(tmp_path / "1", "datasets", {"train": _arrow(damaged)})
    assert "is compressed inside" in refusal(tmp_path / "2", "datasets", {"train": _arrow(words, "zstd")})
    assert "is compressed inside" in refusal(
        tmp_path / "3",
        "datasets",
        {"train": _arrow(words.set_column(1, "answer", words["answer"].dictionary_encode()), "lz4")},
    )
    (tmp_path / "secret.arrow").write_bytes(b"")
    read(tmp_path, "datasets", {"train": _arrow(words)})
    content = (tmp_path / "t/train/data.arrow").read_bytes()
    assert "not a readable Arrow file" in refusal(tmp_path, "datasets", {"train/data.arrow": content[:-200]})
    for name in ("../../../secret.arrow", str(tmp_path / "secret.arrow"), 3):
        state = json.dumps({"_data_files": [{"filename": name}]})
        assert "no Arrow file beside it" in refusal(tmp_path, "datasets", {"train/state.json": state})
    assert "does not name the files" in refusal(tmp_path, "datasets", {"train/state.json": "{}"})
    (tmp_path / "t/train/state.json").unlink()
    assert "state.json: no such file; write it again" in refusal(tmp_path, "datasets", {})


def test_rows_beyond_the_bound_are_counted_before_they_are_read(tmp_path: Path) -> None:
    """Three million rows in a third of a megabyte."""
    codes = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 3_000_000, pyarrow.int8()), ["a"])
    files = {"train.parquet": table(prompt=codes, answer=codes)}
    line = refusal(tmp_path, "parquet", files)
    assert "more than 1,000,000 rows" in line and "set stream.limits.train" in line
    assert read(tmp_path, "parquet", {}, limits={"train": 2}) == [("a", "a")] * 2
    assert "more than 1,000,000 rows" in refusal(tmp_path, "parquet", {}, limits={"train": 2_000_000})


@pytest.mark.parametrize("layout", ["parquet", "saved"])
def test_text_that_is_stored_once_and_used_often_is_counted_before_it_is_unfolded(tmp_path: Path, layout: str) -> None:
    codes = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 5000, pyarrow.int32()), ["x" * 1_000_000])
    columns = {"prompt": codes, "answer": ["a"] * 5000}
    files = {"train.parquet": table(**columns)} if layout == "parquet" else {"train": _arrow(pyarrow.table(columns))}
    assert "more than 1 GiB of text" in refusal(tmp_path, "datasets", files)
    assert len(read(tmp_path, "datasets", {}, limits={"train": 3})) == 3


@pytest.mark.parametrize(
    ("source", "name", "content"),
    [
        ("trace_json", "train.json", json.dumps([{"prompt": "p", "answer": "a"}] * 9)),
        ("jsonl", "train.jsonl", '{"prompt": "p", "answer": "a"}\n' * 9),
        ("datasets", "train.csv", "prompt,answer\n" + "p,a\n" * 9),
        ("datasets", "train.parquet", table(prompt=["p"] * 9, answer=["a"] * 9)),
    ],
)
def test_every_layout_has_the_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, name: str, content: Any
) -> None:
    monkeypatch.setattr(rows_module, "MOST_ROWS", 8)
    assert "more than 8 rows" in refusal(tmp_path, source, {name: content})
    assert len(read(tmp_path, source, {}, limits={"train": 8})) == 8
    monkeypatch.setattr(rows_module, "MOST_TEXT", 15)
    assert len(read(tmp_path, source, {}, limits={"train": 7})) == 7
    assert "of text, the most of a split" in refusal(tmp_path, source, {}, limits={"train": 8})


def test_a_large_file_is_read_as_far_as_it_is_asked_for(tmp_path: Path) -> None:
    def sparse(path: Path) -> None:
        with path.open("w") as file:
            file.write('{"prompt": "p", "answer": "a"}\n')
            file.truncate(1 << 40)

    files = {"train.jsonl": sparse}
    assert read(tmp_path, "jsonl", files, limits={"train": 1}) == [("p", "a")]
    assert "train.jsonl, line 2: has more than 100 MB" in refusal(tmp_path, "jsonl", {})
    assert "train.json: has more than 500 MB; write it as JSON lines" in refusal(
        tmp_path, "trace_json", {"train.json": sparse}
    )
