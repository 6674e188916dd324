"""Streams from files: TRACE-layout JSON, JSONL, Parquet, data sets, and the built-in generator.

A task is named by its folder under `stream.root`. Only the splits that are asked for are opened: a `test` split
stays sealed until it is listed. Everything that would make a result meaningless is refused where the data enter:
missing fields, empty answers, and prompts of a scored split that also occur in another one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seekr_tune.config import Config, Split, StreamConfig
from seekr_tune.config.messages import hint, nearest
from seekr_tune.data.builtin import QUESTIONS, builtin_examples, check_builtin_names
from seekr_tune.data.comma_separated import csv_rows
from seekr_tune.data.erased_rows import without_erased
from seekr_tune.data.folders import Place, check_inside, check_root, find_split, is_hub_name, require_split, root_of
from seekr_tune.data.hub import hub_rows, hub_split
from seekr_tune.data.json_rows import any_rows, line_rows, list_rows
from seekr_tune.data.parquet import parquet_rows
from seekr_tune.data.rows import Wanted, examples_of
from seekr_tune.data.saved import arrow_files, arrow_rows
from seekr_tune.data.scoring import scorers_of
from seekr_tune.data.task import Example, Task, TaskStream
from seekr_tune.errors import DataError, DocumentError

Reader = Callable[[Path, Wanted], Iterator[Any]]
"""Yields the rows of one file, as far as they are asked for."""

_READERS: dict[str, Reader] = {"trace_json": list_rows, "jsonl": line_rows, "parquet": parquet_rows}
_DATASET_READERS: dict[str, Reader] = {
    ".parquet": parquet_rows,
    ".jsonl": any_rows,
    ".json": any_rows,
    ".csv": csv_rows,
    ".arrow": arrow_rows,
}


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
        check_root(stream)
    _check_task_names(stream)
    tasks, scorers = [], scorers_of(config)
    for name in stream.tasks:
        examples = {split: _read_split(config, name, split) for split in dict.fromkeys(splits)}
        _check_no_leak(name, examples)
        erased: frozenset[int] = frozenset()
        if "train" in examples and name in stream.erased:
            erased = frozenset(stream.erased[name].rows)
            examples["train"] = without_erased(name, examples["train"], stream.erased[name])
        tasks.append(Task(name, scorers[name], examples, erased))
    return TaskStream(tuple(tasks))


def has_split(config: Config, task: str, split: Split) -> bool:
    """Whether a task has a split; the split itself is not opened."""
    stream = config.stream
    if stream.source == "builtin":
        return True
    check_root(stream)
    if is_hub_name(stream):
        return hub_split(str(stream.root), task, split) is not None
    return find_split(stream, task, split) is not None


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


def _check_task_names(stream: StreamConfig) -> None:
    """Refuse metrics and erased rows of a task that is none: the one that was meant would silently go without.

    Those of tasks that are not in this stream but could be are welcome: an experiment may list them all, and a run take
    a few. On the hub nobody can say what there is, so a name that is no task is refused there where it is like one.
    """
    for field, mapping in (("metrics", stream.metrics), ("erased", stream.erased)):
        missing = [task for task in stream.tasks if task not in mapping]
        for name in mapping:
            if name in stream.tasks or _is_task(stream, name):
                continue
            near = nearest(name, missing, 0.8)
            if near is not None or not is_hub_name(stream):
                said = hint(name, missing or stream.tasks) if near is None else f"did you mean {near!r}?"
                raise DataError(f"stream.{field}: there is no task {name!r}; {said}")


def _is_task(stream: StreamConfig, name: str) -> bool:
    """Whether a name that is not among the tasks is that of another one."""
    if stream.source == "builtin":
        return name in QUESTIONS
    return not is_hub_name(stream) and bool(name) and os.path.isdir(root_of(stream) / name)


def _read_split(config: Config, task: str, split: Split) -> tuple[Example, ...]:
    stream = config.stream
    if stream.source == "builtin":
        return builtin_examples(task, config.seed, split, stream.limits)
    wanted = Wanted.of(stream, task, split)
    try:
        if is_hub_name(stream):
            where = f"{stream.root} [{task}]"
            examples = tuple(examples_of(hub_rows(str(stream.root), task, split), wanted, where))
        else:
            place = require_split(stream, task, split)
            where = str(place.saved or place.files[0])
            examples = tuple(examples_of(_file_rows(stream, place, wanted), wanted, where))
    except DocumentError as error:
        raise DataError(str(error)) from None
    if not examples:
        raise DataError(f"{where}: split {split!r} of task {task!r} has no rows; give it at least one")
    return examples


def _file_rows(stream: StreamConfig, place: Place, wanted: Wanted) -> Iterator[Any]:
    files = place.files if place.saved is None else arrow_files(place.saved)
    for path in files:
        check_inside(path, stream)
    for path in files:
        reader = _DATASET_READERS[path.suffix] if stream.source == "datasets" else _READERS[stream.source]
        yield from reader(path, wanted)
