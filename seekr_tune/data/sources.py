"""Streams from files: TRACE-layout JSON, JSONL, Parquet, data sets, and the built-in generator.

A task is named by its folder under `stream.root`. Only the splits that are asked for are opened: a `test` split
stays sealed until it is listed. Everything that would make a result meaningless is refused where the data enter:
missing fields, empty answers, and prompts of a scored split that also occur in another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seekr_tune.config import Config, Split, StreamConfig
from seekr_tune.config.messages import hint, nearest
from seekr_tune.data.erased_rows import without_erased
from seekr_tune.data.formats import Format, format_of
from seekr_tune.data.rows import Wanted, examples_of
from seekr_tune.data.scoring import scorers_of
from seekr_tune.data.task import Example, Task, TaskStream
from seekr_tune.errors import DataError, DocumentError


def load_stream(config: Config, splits: Sequence[Split]) -> TaskStream:
    """Read the tasks of an experiment.

    Args:
        config: the experiment; `stream` says what to read, `seed` draws the built-in data.
        splits: the splits to read; no other file is opened.

    Raises:
        DataError: anything that cannot be read or must not be learned from.
    """
    stream, found = config.stream, format_of(config)
    _check_task_names(stream, found)
    tasks, scorers = [], scorers_of(config)
    for name in stream.tasks:
        examples = {split: _read_split(stream, found, name, split) for split in dict.fromkeys(splits)}
        _check_no_leak(name, examples)
        erased: frozenset[int] = frozenset()
        if "train" in examples and name in stream.erased:
            erased = frozenset(stream.erased[name].rows)
            examples["train"] = without_erased(name, examples["train"], stream.erased[name])
        tasks.append(Task(name, scorers[name], examples, erased))
    return TaskStream(tuple(tasks))


def has_split(config: Config, task: str, split: Split) -> bool:
    """Whether a task has a split; the split itself is not opened."""
    return format_of(config).has(task, split)


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


def _check_task_names(stream: StreamConfig, found: Format) -> None:
    """Refuse metrics and erased rows of a task that is none: the one that was meant would silently go without.

    Those of tasks that are not in this stream but could be are welcome: an experiment may list them all, and a run take
    a few. Where nobody can say what there is, a name that is no task is refused if it is like one.
    """
    for field, mapping in (("metrics", stream.metrics), ("erased", stream.erased)):
        missing = [task for task in stream.tasks if task not in mapping]
        for name in mapping:
            known = name in stream.tasks or found.knows(name)
            near = nearest(name, missing, 0.8)
            if known is False or (known is None and near is not None):
                said = hint(name, missing or stream.tasks) if near is None else f"did you mean {near!r}?"
                raise DataError(f"stream.{field}: there is no task {name!r}; {said}")


def _read_split(stream: StreamConfig, found: Format, task: str, split: Split) -> tuple[Example, ...]:
    wanted = Wanted.of(stream, task, split)
    try:
        where, rows = found.read(wanted)
        examples = tuple(examples_of(rows, wanted, where))
    except DocumentError as error:
        raise DataError(str(error)) from None
    if not examples:
        raise DataError(f"{where}: split {split!r} of task {task!r} has no rows; give it at least one")
    return examples
