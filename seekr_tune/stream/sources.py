"""Streams from files: TRACE-layout JSON, JSONL, Parquet, Hugging Face `datasets`, and the built-in generator.

A task is named by its folder under `stream.root`. Only the splits that are asked for are opened: a `test` split
stays sealed until it is listed. Everything that would make a result meaningless is refused here, where the data
enters: missing fields, empty answers, and prompts of a scored split that also occur in another one.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from seekr_tune.config import Config, Split, StreamConfig
from seekr_tune.config.messages import shown
from seekr_tune.errors import DataError
from seekr_tune.noise import hear_libraries
from seekr_tune.stream.builtin import builtin_examples, check_builtin_names
from seekr_tune.stream.erased import without_erased
from seekr_tune.stream.task import Example, Task, TaskStream

_SUFFIXES = {"trace_json": "json", "jsonl": "jsonl", "parquet": "parquet"}
_DATASET_SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "eval": ("eval", "validation", "dev"),
    "test": ("test",),
}
_DATASET_BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
_SHOWN = 8  # names listed in a message


def load_stream(config: Config, splits: Sequence[Split]) -> TaskStream:
    """Read the tasks of an experiment.

    Args:
        config: the experiment; `stream` says what to read, `seed` draws the built-in data.
        splits: the splits to read; no other file is opened.

    Raises:
        DataError: anything that cannot be read or must not be learned from.
    """
    stream = config.stream
    if stream.source == "builtin":
        check_builtin_names(stream.tasks)
    else:
        _check_root(stream)
    _check_metric_names(stream)
    tasks = []
    for name in stream.tasks:
        examples = {split: _read_split(config, name, split) for split in dict.fromkeys(splits)}
        _check_no_leak(name, examples)
        erased: frozenset[int] = frozenset()
        if "train" in examples and name in stream.erased:
            erased = frozenset(stream.erased[name].rows)
            examples["train"] = without_erased(name, examples["train"], stream.erased[name])
        tasks.append(Task(name, stream.metric_of(name), examples, erased))
    return TaskStream(tuple(tasks))


def has_split(config: Config, task: str, split: Split) -> bool:
    """Whether a task has a split; the split itself is not opened."""
    stream = config.stream
    if stream.source == "builtin":
        return True
    _check_root(stream)
    if stream.source == "datasets":
        if _is_hub_name(stream):
            return _hub_split(str(stream.root), task, split) is not None
        return _dataset_files(_task_directory(stream, task), split) is not None
    return os.path.isfile(_split_file(stream, task, split))


def count_rows(stream: TaskStream) -> dict[str, dict[Split, int]]:
    """Rows of every split that was read, by task: what `validate` prints once `load_stream` has accepted a stream."""
    return {task.name: {split: len(examples) for split, examples in task.splits.items()} for task in stream}


def leak_key(prompt: str) -> str:
    """What prompts of two splits must not share: the text with every run of blanks taken as one, case kept.

    Case is kept on purpose: published tasks (FOMC, task1687) hold rows that differ in case only and count as two.
    """
    return " ".join(prompt.split())


def _check_no_leak(task: str, examples: Mapping[Split, Sequence[Example]]) -> None:
    """Refuse prompts of `eval` in `train`, and prompts of `test` in `train` or `eval`."""
    order: tuple[Split, ...] = ("train", "eval", "test")
    seen: dict[str, str] = {}
    for split in order:
        keys = [leak_key(example.prompt) for example in examples.get(split, ())]
        shared = [number for number, key in enumerate(keys, start=1) if key in seen]
        if shared:
            raise DataError(
                f"task {task!r}: {len(shared)} of {len(keys)} prompts of split {split!r} also occur in another split "
                f"(first: row {shared[0]}, in {seen[keys[shared[0] - 1]]!r}); remove them from one of the two"
            )
        seen.update(dict.fromkeys(keys, split))


def _check_metric_names(stream: StreamConfig) -> None:
    """Refuse a metric whose task is misspelt: the task that was meant would silently be scored by the default.

    Metrics of tasks that are not in this stream are welcome: an experiment may list them all, and a run take a few.
    """
    without_metric = [task for task in stream.tasks if task not in stream.metrics]
    for name in stream.metrics:
        meant = difflib.get_close_matches(name, without_metric, n=1, cutoff=0.8)
        exists = stream.root is not None and os.path.isdir(Path(stream.root) / name)
        if name not in stream.tasks and meant and not exists:
            raise DataError(f"stream.metrics: there is no task {name!r}; did you mean {meant[0]!r}?")


def _read_split(config: Config, task: str, split: Split) -> tuple[Example, ...]:
    stream = config.stream
    if stream.source == "builtin":
        return builtin_examples(task, config.seed, split, stream.limits)
    if stream.source == "datasets":
        rows, where = _dataset_rows(stream, task, split)
    else:
        path = _split_file(stream, task, split)
        _check_file(path, _root(stream))
        readers = {"trace_json": _json_rows, "jsonl": _jsonl_rows, "parquet": _parquet_rows}
        rows, where = readers[stream.source](path), str(path)
    examples = tuple(_examples(rows, stream, split, where))
    if not examples:
        raise DataError(f"{where}: split {split!r} of task {task!r} has no rows; give it at least one")
    return examples


def _examples(rows: Iterator[Any], stream: StreamConfig, split: Split, where: str) -> Iterator[Example]:
    """Checked examples, up to the split's cap; rows are counted from 1."""
    limit = stream.limits.of(split)
    for number, row in enumerate(rows, start=1):
        if limit is not None and number > limit:
            return
        place = f"{where}, row {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{place}: must be a mapping of fields, but is a {type(row).__name__}; give an object")
        prompt = _field(row, stream.columns.prompt, "prompt", place)
        answer = _field(row, stream.columns.answer, "answer", place)
        for role, text in (("prompt", prompt), ("answer", answer)):
            if not text.strip():
                raise DataError(
                    f"{place}: the {role} is empty, so nothing can be learned from it; fill or drop the row"
                )
        yield Example(prompt, answer)


def _field(row: Mapping[str, Any], column: str, role: str, place: str) -> str:
    if column not in row:
        there = ", ".join(map(str, row)) or "none"
        raise DataError(f"{place}: no field {column!r} (fields: {there}); rename it or set stream.columns.{role}")
    value = row[column]
    if not isinstance(value, str):
        raise DataError(f"{place}: field {column!r} must be text, but is a {type(value).__name__}; write a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{place}: field {column!r} holds half a surrogate pair, which is no text; mend it") from None
    return value


# --- files under a root -------------------------------------------------------------------------------------------


def _root(stream: StreamConfig) -> Path:
    assert stream.root is not None, "checked by _check_root"
    return Path(stream.root).expanduser()


def _check_root(stream: StreamConfig) -> None:
    if stream.root is None:
        raise DataError(f"stream.root: not set; give the directory of the {stream.source} tasks")
    if not os.path.isdir(_root(stream)) and not _is_hub_name(stream):
        raise DataError(f"stream.root: {stream.root!r} is not a directory; give the one that holds the task folders")


def _is_hub_name(stream: StreamConfig) -> bool:
    """Whether the root can only be meant as a name on the Hugging Face hub: `name` or `owner/name`, not a folder."""
    root = stream.root or ""
    looks_like_path = root.startswith((".", "/", "~")) or root.count("/") > 1
    return stream.source == "datasets" and not looks_like_path and not os.path.isdir(_root(stream))


def _split_file(stream: StreamConfig, task: str, split: Split) -> Path:
    return _task_directory(stream, task) / f"{split}.{_SUFFIXES[stream.source]}"


def _task_directory(stream: StreamConfig, task: str) -> Path:
    """The folder of a task, which must lie under the root even when links are followed."""
    root, name = _root(stream), PurePosixPath(task)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise DataError(f"stream.tasks: {task!r} leads outside stream.root; name a folder under {root}")
    if str(name) != task:
        raise DataError(f"stream.tasks: write {task!r} as {str(name)!r}")
    directory = root / name
    if not os.path.isdir(directory):
        raise DataError(f"stream.tasks: no folder {task!r} under {root}; {_hint(task, _task_names(root))}")
    if not directory.resolve().is_relative_to(root.resolve()):
        raise DataError(f"stream.tasks: {directory} is a link out of stream.root; copy the task's folder under {root}")
    return directory


def _check_file(path: Path, root: Path) -> None:
    if not os.path.isfile(path):
        there = ", ".join(sorted(os.listdir(path.parent))[:_SHOWN]) or "nothing"
        raise DataError(f"{path}: no such file (the task's folder holds: {there}); add it")
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{path}: a link out of stream.root; copy the file under {root}")


def _task_names(root: Path) -> list[str]:
    """Folders under the root that hold files, as task names, to two levels."""
    folders = [path for pattern in ("*", "*/*") for path in sorted(root.glob(pattern)) if path.is_dir()]
    return [path.relative_to(root).as_posix() for path in folders if any(item.is_file() for item in path.iterdir())]


def _hint(name: str, known: Sequence[str]) -> str:
    last_parts = {item.rsplit("/", 1)[-1].casefold(): item for item in known}
    same = last_parts.get(name.rsplit("/", 1)[-1].casefold())
    near = [same] if same else difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    shown = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
    return f"choose from {shown}" if known else "there are no task folders: check stream.root"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _json_rows(path: Path) -> Iterator[Any]:
    try:
        rows = json.loads(_read_text(path), object_pairs_hook=_row)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        lines = "; set stream.source to jsonl, if it is one object a line" if "Extra data" in str(error) else ""
        raise DataError(f"{path}: not valid JSON ({_one_line(error)}); mend the file{lines}") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: must hold a list of rows, but holds a {type(rows).__name__}; put the rows into [ ]")
    return iter(rows)


def _row(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of one JSON object, none of which may stand twice: Python would keep the last one and say nothing."""
    row = dict(fields)
    if len(row) < len(fields):
        names = [name for name, _ in fields]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} stands twice in the row {shown(row)}, drop one")
    return row


def _jsonl_rows(path: Path) -> Iterator[Any]:
    # not str.splitlines(): a line separator such as U+2028 may stand inside a JSON string
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line, object_pairs_hook=_row)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: not valid JSON ({error}); give one object a line") from None


def _parquet_rows(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # Parquet says text, and holds other bytes
        raise DataError(f"{path}: not a readable Parquet file ({_one_line(error)}); write it again") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


# --- Hugging Face datasets ----------------------------------------------------------------------------------------


def _dataset_rows(stream: StreamConfig, task: str, split: Split) -> tuple[Iterator[Any], str]:
    """Rows of one split of a data set, and a name for messages.

    The root is a hub name (task = configuration), or a directory whose task folders were written by
    `DatasetDict.save_to_disk` or hold files named after the splits (`train.parquet`, `validation-*.jsonl`, ...).
    """
    if _is_hub_name(stream):
        return _hub_rows(str(stream.root), task, split), f"{stream.root} [{task}]"
    directory = _task_directory(stream, task)
    found = _dataset_files(directory, split)
    if found is None:
        names = " or ".join(_DATASET_SPLITS[split])
        there = ", ".join(sorted(os.listdir(directory))[:_SHOWN]) or "nothing"
        raise DataError(f"{directory}: no data set split named {names} (the folder holds: {there}); add it")
    builder, files = found
    if builder is None:
        return _saved_rows(files[0], _root(stream)), str(files[0])
    for file in files:
        _check_file(file, _root(stream))
    return _built_rows(builder, files), str(files[0])


def _dataset_files(directory: Path, split: Split) -> tuple[str | None, list[Path]] | None:
    """Where a split lies in a task's folder: a folder of `save_to_disk` (no builder), or files and their builder."""
    for name in _DATASET_SPLITS[split]:
        if os.path.isfile(directory / name / "dataset_info.json"):
            return None, [directory / name]
        for folder in (directory, directory / "data"):
            for suffix, builder in _DATASET_BUILDERS.items():
                files = sorted([*folder.glob(f"{name}{suffix}"), *folder.glob(f"{name}-*{suffix}")])
                if files:
                    return builder, files
    return None


def _hub_rows(root: str, task: str, split: Split) -> Iterator[Any]:
    import datasets

    with _hub_errors(root, task):
        found = _hub_split(root, task, split)
        if found is None:
            present = ", ".join(datasets.get_dataset_split_names(root, task))
            raise DataError(f"{root} [{task}]: no split {split!r}, only {present}; choose another data set")
        # streaming: otherwise every split is downloaded and prepared, the sealed one too
        yield from datasets.load_dataset(root, name=task, split=found, streaming=True)


def _hub_split(root: str, task: str, split: Split) -> str | None:
    """What the hub calls a split."""
    import datasets

    with _hub_errors(root, task):
        present = datasets.get_dataset_split_names(root, task)
    return next((name for name in _DATASET_SPLITS[split] if name in present), None)


def _saved_rows(directory: Path, root: Path) -> Iterator[Any]:
    import datasets

    for path in directory.iterdir():
        _check_file(path, root)
    with _dataset_errors(str(directory), "write it again with DatasetDict.save_to_disk"):
        yield from datasets.load_from_disk(str(directory))


def _built_rows(builder: str, files: Sequence[Path]) -> Iterator[Any]:
    import datasets

    with _dataset_errors(str(files[0]), f"write it again as {files[0].suffix[1:]}"):
        data_files = [str(file) for file in files]
        yield from datasets.load_dataset(builder, data_files=data_files, split="train", streaming=True)


def _hub_errors(root: str, task: str) -> AbstractContextManager[None]:
    mend = f"give a directory, or a data set and configuration of the hub that can be reached from here, not {root!r}"
    return _dataset_errors(f"{root} [{task}]", mend)


@contextmanager
def _dataset_errors(where: str, mend: str) -> Iterator[None]:
    """Turn what the `datasets` library raises on unreadable data into one line."""
    import datasets.exceptions
    import pyarrow

    hear_libraries()
    try:
        yield
    except DataError:
        raise
    except (datasets.exceptions.DatasetsError, pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{where}: cannot be read by the datasets library ({_one_line(error)}); {mend}") from None
