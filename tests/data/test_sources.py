"""Reading streams: four layouts give the same rows, a sealed split is not opened, and mistakes are named."""

from __future__ import annotations

import builtins
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest

from seekr_tune.config import Config, Split
from seekr_tune.data.sources import count_rows, leak_key, load_stream
from seekr_tune.data.task import Example
from seekr_tune.errors import DataError

SPLITS: tuple[Split, ...] = ("train", "eval", "test")
Rows = list[dict[str, Any]]


def _rows(split: str, num: int = 3) -> Rows:
    return [{"prompt": f"{split} question {index}\u2028?", "answer": f"answer {index}"} for index in range(num)]


def _config(root: Path | str | None, tasks: Sequence[str] = ("colours",), **stream: Any) -> Config:
    given = {"source": "trace_json", "root": None if root is None else str(root), "tasks": tuple(tasks), **stream}
    return Config.model_validate({"stream": given})


def _write_json(folder: Path, split: str, rows: Any) -> None:
    (folder / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")


def _write_jsonl(folder: Path, split: str, rows: Rows) -> None:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / f"{split}.jsonl").write_text(lines + "\n\n", encoding="utf-8")


def _write_parquet(folder: Path, split: str, rows: Rows) -> None:
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")


def _write_saved(folder: Path, split: str, rows: Rows) -> None:
    datasets.Dataset.from_list(rows).save_to_disk(str(folder / ("validation" if split == "eval" else split)))


def _write_shards(folder: Path, split: str, rows: Rows) -> None:
    (folder / "data").mkdir(exist_ok=True)
    _write_parquet(folder / "data", f"{split}-00000-of-00002", rows[:1])
    _write_parquet(folder / "data", f"{split}-00001-of-00002", rows[1:])


LAYOUTS: dict[str, tuple[str, Callable[[Path, str, Rows], None]]] = {
    "trace_json": ("trace_json", _write_json),
    "jsonl": ("jsonl", _write_jsonl),
    "parquet": ("parquet", _write_parquet),
    "datasets saved to disk": ("datasets", _write_saved),
    "datasets in jsonl files": ("datasets", _write_jsonl),
    "datasets in parquet shards": ("datasets", _write_shards),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the TRACE-layout tasks `colours` and `nested/shapes`."""
    for name in ("colours", "nested/shapes"):
        folder = tmp_path / "root" / name
        folder.mkdir(parents=True)
        for split in SPLITS:
            _write_json(folder, split, _rows(split))
    return tmp_path / "root"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(tmp_path: Path, layout: str) -> None:
    source, write = LAYOUTS[layout]
    folder = tmp_path / "colours"
    folder.mkdir()
    for split in SPLITS:
        write(folder, split, _rows(split))
    stream = load_stream(_config(tmp_path, source=source), SPLITS)
    for split in SPLITS:
        expected = tuple(Example(row["prompt"], row["answer"]) for row in _rows(split))
        assert stream[0].splits[split] == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sealed_test_split_is_not_opened(tmp_path: Path, layout: str) -> None:
    source, write = LAYOUTS[layout]
    folder = tmp_path / "colours"
    folder.mkdir()
    for split in SPLITS:
        write(folder, split, _rows(split))
    for path in [*folder.rglob("test*"), *folder.glob("test/*")]:  # whoever reads it fails
        if path.is_file():
            path.write_bytes(b"\xff sealed")
    stream = load_stream(_config(tmp_path, source=source), ("train", "eval"))
    assert count_rows(stream) == {"colours": {"train": 3, "eval": 3}}
    with pytest.raises(DataError, match="test"):
        load_stream(_config(tmp_path, source=source), ("train", "test"))


def test_no_handle_to_a_sealed_file_is_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    for module, name in ((builtins, "open"), (io, "open"), (os, "open")):
        real = getattr(module, name)

        def noted(file: Any, *args: Any, real: Callable[..., Any] = real, **named: Any) -> Any:
            opened.append(Path(file).name if isinstance(file, str | Path) else "")
            return real(file, *args, **named)

        monkeypatch.setattr(module, name, noted)
    load_stream(_config(root), ("train", "eval"))
    assert {"train.json", "eval.json"} <= set(opened)
    assert "test.json" not in opened


def test_order_metrics_and_sub_folders_come_from_the_experiment(root: Path) -> None:
    config = _config(root, ("nested/shapes", "colours"), metrics={"colours": "rouge_l"})
    stream = load_stream(config, ("train",))
    assert stream.names == ("nested/shapes", "colours")
    assert [task.scorer.name for task in stream] == ["exact_match", "rouge_l"]


def test_limits_take_rows_from_the_start_and_do_not_check_the_rest(root: Path) -> None:
    _write_json(root / "colours", "train", [*_rows("train"), {"prompt": 1}])
    stream = load_stream(_config(root, limits={"train": 2}), ("train", "eval"))
    assert count_rows(stream) == {"colours": {"train": 2, "eval": 3}}


def test_columns_can_have_other_names(root: Path) -> None:
    _write_json(root / "colours", "train", [{"input": "p", "output": "a", "more": 1}])
    config = _config(root, columns={"prompt": "input", "answer": "output"})
    assert load_stream(config, ("train",))[0].train == (Example("p", "a"),)


def test_the_builtin_stream_needs_no_root() -> None:
    config = _config(None, ("star", "last"), source="builtin", limits={"train": 5, "eval": 4, "test": 3})
    assert count_rows(load_stream(config, SPLITS)) == {
        name: {"train": 5, "eval": 4, "test": 3} for name in ("star", "last")
    }
    with pytest.raises(DataError, match="did you mean 'star'"):
        load_stream(_config(None, ("stra",), source="builtin"), ("train",))


# --- what is refused ----------------------------------------------------------------------------------------------


def _refusal(config: Config, splits: Sequence[Split] = ("train", "eval")) -> str:
    with pytest.raises(DataError) as caught:
        load_stream(config, splits)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_roots_that_are_no_directory(root: Path) -> None:
    assert "stream.root: not set" in _refusal(_config(None))
    assert "is not a directory" in _refusal(_config(root / "nowhere"))
    assert "is not a directory" in _refusal(_config(root / "colours" / "train.json"))
    assert "is not a directory" in _refusal(_config(root / "nowhere", source="datasets"))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("colors", "did you mean 'colours'?"),
        ("shapes", "did you mean 'nested/shapes'?"),
        ("Colours", "did you mean 'colours'?"),
        ("xyzzy", "choose from colours, nested/shapes"),
        ("../root/colours", "leads outside stream.root"),
        ("/etc", "leads outside stream.root"),
        (".", "leads outside stream.root"),
        ("colours/", "write 'colours/' as 'colours'"),
        ("nul\0", "no folder"),
    ],
)
def test_task_names_that_are_no_folder_under_the_root(root: Path, task: str, message: str) -> None:
    assert message in _refusal(_config(root, (task,)))
    assert message in _refusal(_config(root, (task,), source="datasets"))


def test_links_that_lead_out_of_the_root(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    _write_json(outside, "train", _rows("train"))
    (root / "linked").symlink_to(outside)
    assert "link out of stream.root" in _refusal(_config(root, ("linked",)))
    (root / "half").mkdir()
    (root / "half" / "train.json").symlink_to(outside / "train.json")
    assert "link out of stream.root" in _refusal(_config(root, ("half",)))
    assert "link out of stream.root" in _refusal(_config(root, ("half",), source="datasets"))
    (root / "alias").symlink_to(root / "colours")  # a link inside the root is fine
    assert len(load_stream(_config(root, ("alias",)), ("train",))) == 1


def test_a_missing_split_says_what_is_there(root: Path) -> None:
    (root / "colours" / "eval.json").unlink()
    message = _refusal(_config(root))
    assert "eval.json: no such file" in message and "test.json, train.json" in message
    assert "no data set split named eval or validation" in _refusal(_config(root, source="datasets"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\xff\xfe", "byte 1 is not UTF-8"),
        (b'[{"prompt": ', "not valid JSON"),
        (b"[" * 100_000, "nests deeper than 100 levels"),
        (b"[" + b"9" * 5000 + b"]", "not valid JSON"),
        (b'{"prompt": "p"}', "must hold a list of rows, but holds a dict"),
        (b"[]", "has no rows"),
        (b'[["p", "a"]]', "row 1: must be a mapping of fields, but is a list"),
        (b'[{"prompt": "p", "answer": "a"}, {"prompt": "q"}]', "row 2: no field 'answer' (fields: prompt)"),
        (b'[{"text": "p", "answer": "a"}]', "stream.columns.prompt"),
        (b'[{"prompt": "p", "answer": 3}]', "row 1: field 'answer' must be text, but is a int"),
        (b'[{"prompt": null, "answer": "a"}]', "field 'prompt' must be text, but is a NoneType"),
        (b'[{"prompt": "p", "answer": " \\n"}]', "row 1: the answer is empty"),
        (b'[{"prompt": "", "answer": "a"}]', "row 1: the prompt is empty"),
        (b'[{"prompt": "\\ud800", "answer": "a"}]', "half a surrogate pair"),
    ],
)
def test_files_that_hold_no_rows_to_learn_from(root: Path, content: bytes, message: str) -> None:
    (root / "colours" / "train.json").write_bytes(content)
    refusal = _refusal(_config(root))
    assert message in refusal
    assert "colours" in refusal and "train" in refusal


def test_broken_files_of_the_other_layouts(tmp_path: Path) -> None:
    folder = tmp_path / "colours"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"prompt": "p", "answer": "a"}\n{"prompt"\n')
    assert "train.jsonl, line 2: not valid JSON" in _refusal(_config(tmp_path, source="jsonl"))
    assert "train.jsonl, line 2: not valid JSON" in _refusal(_config(tmp_path, source="datasets"))
    (folder / "train.jsonl").unlink()
    (folder / "train.parquet").write_bytes(b"PAR1 garbagePAR1")
    assert "not a readable Parquet file" in _refusal(_config(tmp_path, source="parquet"))
    assert "not a readable Parquet file" in _refusal(_config(tmp_path, source="datasets"))


def test_a_hub_name_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any) -> list[str]:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "get_dataset_split_names", unreachable)
    assert "no network" in _refusal(_config("owner/name", source="datasets"))


def test_a_hub_data_set_is_streamed_so_that_only_one_split_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Mapping[str, Any]] = []

    def load_dataset(path: str, **arguments: Any) -> Rows:
        asked.append({"path": path, **arguments})
        return _rows(arguments["split"])

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda path, name: ["train", "validation"])
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    load_stream(_config("owner/name", source="datasets"), ("train", "eval"))
    assert asked == [
        {"path": "owner/name", "name": "colours", "split": split, "streaming": True}
        for split in ("train", "validation")
    ]
    assert "no split 'test', only train, validation" in _refusal(_config("owner/name", source="datasets"), ("test",))


@pytest.mark.parametrize(("other", "splits"), [("eval", SPLITS), ("test", ("train", "test")), ("test", SPLITS)])
def test_prompts_of_a_scored_split_that_occur_in_train(root: Path, other: Split, splits: Sequence[Split]) -> None:
    leaked = {**_rows("train")[1], "prompt": "  " + _rows("train")[1]["prompt"].replace(" ", "\n")}
    _write_json(root / "colours", other, [*_rows(other), leaked])
    message = _refusal(_config(root), splits)
    assert f"1 of 4 prompts of split '{other}'" in message
    assert "first: row 4, in 'train'" in message


def test_prompts_of_test_that_occur_in_eval(root: Path) -> None:
    _write_json(root / "colours", "test", _rows("eval"))
    assert "3 of 3 prompts of split 'test' also occur in another split (first: row 1, in 'eval')" in _refusal(
        _config(root), SPLITS
    )


def test_prompts_that_differ_in_case_only_are_two() -> None:
    assert leak_key("A  b\n") == leak_key("A b") != leak_key("a b")


def test_a_metric_of_a_task_that_does_not_exist(root: Path) -> None:
    message = _refusal(_config(root, metrics={"colors": "rouge_l"}))
    assert "stream.metrics: there is no task 'colors'; did you mean 'colours'?" in message
    load_stream(_config(root, metrics={"nested/shapes": "rouge_l"}), ("train",))  # there, but not in this stream
    assert "stream.metrics" in _refusal(_config(None, ("star",), source="builtin", metrics={"stars": "rouge_l"}))


@pytest.mark.parametrize("field", ["metrics", "erased"])
def test_a_name_that_is_like_no_task_is_refused_too(root: Path, field: str) -> None:
    """It is not near enough to guess, and no other task either."""
    value = {"zzz": "rouge_l" if field == "metrics" else {"rows": [0], "size": 4}}
    message = _refusal(_config(root, **{field: value}))
    assert f"stream.{field}: there is no task 'zzz'; choose from " in message and "colours" in message
    assert "there is no task 'zzz'" in _refusal(_config(None, ("star",), source="builtin", **{field: value}))
    other = {"paren": value["zzz"]}  # a task of the built-in stream, though not of this one
    load_stream(_config(None, ("star",), source="builtin", **{field: other}), ("train",))


# --- real data ----------------------------------------------------------------------------------------------------


def test_real_tasks_load_with_all_their_splits(data_directory: Path) -> None:
    tasks = [
        path.parent.relative_to(data_directory).as_posix() for path in sorted(data_directory.glob("*/*/train.json"))
    ]
    stream = load_stream(_config(data_directory, tasks), SPLITS)
    for task, counts in count_rows(stream).items():
        for split in SPLITS:
            content = json.loads((data_directory / task / f"{split}.json").read_text(encoding="utf-8"))
            assert counts[split] == len(content)
