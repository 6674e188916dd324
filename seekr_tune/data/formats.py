"""Formats: which splits a task has, and the rows of one; those of the package, and a user's own.

Nothing of a split is opened before its rows are asked for, and no split but the one that is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from seekr_tune.config import Config, Split, StreamConfig
from seekr_tune.data.builtin import QUESTIONS, builtin_examples, check_builtin_names
from seekr_tune.data.comma_separated import csv_rows
from seekr_tune.data.folders import Place, check_inside, check_root, find_split, is_hub_name, require_split, root_of
from seekr_tune.data.hub import hub_rows, hub_split
from seekr_tune.data.json_rows import any_rows, line_rows, list_rows
from seekr_tune.data.parquet import parquet_rows
from seekr_tune.data.rows import Wanted
from seekr_tune.data.saved import arrow_files, arrow_rows
from seekr_tune.errors import DataError, UserError
from seekr_tune.plugins import imported

T = TypeVar("T")
FileReader = Callable[[Path, Wanted], Iterator[Any]]
"""Yields the rows of one file, as far as they are asked for."""
_READERS: dict[str, FileReader] = {"trace_json": list_rows, "jsonl": line_rows, "parquet": parquet_rows}
_DATASET_READERS: dict[str, FileReader] = {
    ".parquet": parquet_rows,
    ".jsonl": any_rows,
    ".json": any_rows,
    ".csv": csv_rows,
    ".arrow": arrow_rows,
}


class OwnFormat(Protocol):
    """What a format of a user's own is: a class that is called with `stream.root` (a path, or None) and the seed."""

    def splits(self, task: str) -> Collection[str]:
        """Splits that a task has, of `train`, `eval` and `test`; none are opened. Empty: there is no such task."""

    def rows(self, task: str, split: str) -> Iterable[Mapping[str, Any]]:
        """Rows of a split, with the fields of `stream.columns`; no more of them are taken than are wanted."""


class Format(Protocol):
    """Rows of a stream, with a word for messages of where they lie."""

    def has(self, task: str, split: Split) -> bool:
        """Whether a task has a split, which is not opened."""

    def read(self, wanted: Wanted) -> tuple[str, Iterator[Any]]:
        """Where a split lies, and its rows.

        Raises:
            DataError: there is no such task or split, or, while rows are taken, they cannot be read.
        """

    def knows(self, task: str) -> bool | None:
        """Whether there is such a task; None: nobody can say."""


def format_of(config: Config) -> Format:
    """The format that `stream.source` names; code of a user is imported.

    Raises:
        DataError, ConfigError: a root that is missing or wrong, tasks that the built-in stream has not, or code that
            cannot be imported.
    """
    stream = config.stream
    if stream.source in config.plugins:
        return _Own(config)
    if stream.source == "builtin":
        check_builtin_names(stream.tasks)
        return _Builtin(config)
    check_root(stream)
    return _Hub(stream) if is_hub_name(stream) else _Folders(stream)


class _Builtin:
    def __init__(self, config: Config) -> None:
        self._config = config

    def has(self, task: str, split: Split) -> bool:
        return True

    def read(self, wanted: Wanted) -> tuple[str, Iterator[Any]]:
        made = builtin_examples(wanted.task, self._config.seed, wanted.split, self._config.stream.limits)
        rows = ({wanted.prompt: example.prompt, wanted.answer: example.answer} for example in made)
        return f"built-in task {wanted.task!r}, {wanted.split}", rows

    def knows(self, task: str) -> bool:
        return task in QUESTIONS


class _Folders:
    def __init__(self, stream: StreamConfig) -> None:
        self._stream = stream

    def has(self, task: str, split: Split) -> bool:
        return find_split(self._stream, task, split) is not None

    def read(self, wanted: Wanted) -> tuple[str, Iterator[Any]]:
        place = require_split(self._stream, wanted.task, wanted.split)
        return str(place.saved or place.files[0]), self._rows(place, wanted)

    def knows(self, task: str) -> bool:
        return bool(task) and (root_of(self._stream) / task).is_dir()

    def _rows(self, place: Place, wanted: Wanted) -> Iterator[Any]:
        files, source = place.files if place.saved is None else arrow_files(place.saved), self._stream.source
        for path in files:
            check_inside(path, self._stream)
        for path in files:
            reader = _DATASET_READERS[path.suffix] if source == "datasets" else _READERS[source]
            yield from reader(path, wanted)


class _Hub:
    def __init__(self, stream: StreamConfig) -> None:
        self._root = str(stream.root)

    def has(self, task: str, split: Split) -> bool:
        return hub_split(self._root, task, split) is not None

    def read(self, wanted: Wanted) -> tuple[str, Iterator[Any]]:
        return f"{self._root} [{wanted.task}]", hub_rows(self._root, wanted.task, wanted.split)

    def knows(self, task: str) -> None:
        return None


class _Own:
    """A format of a user's own, whose faults are one line each."""

    def __init__(self, config: Config) -> None:
        stream, plugin = config.stream, config.plugins[config.stream.source]
        self._said = f"format {stream.source} ({plugin.origin})"
        found, root = imported("format", stream.source, plugin), None if stream.root is None else root_of(stream)
        self._format: OwnFormat = self._asked("cannot be made", lambda: found(root, config.seed))

    def has(self, task: str, split: Split) -> bool:
        return split in self._splits(task)

    def read(self, wanted: Wanted) -> tuple[str, Iterator[Any]]:
        where, splits = f"{self._said}, task {wanted.task!r}, {wanted.split}", self._splits(wanted.task)
        if wanted.split not in splits:
            there = f"only {', '.join(splits)}" if splits else "and no other: is it a task?"
            raise DataError(f"{where}: there is no such split, {there}")
        return where, self._rows(wanted, where)

    def knows(self, task: str) -> bool:
        return bool(self._splits(task))

    def _splits(self, task: str) -> list[str]:
        return self._asked(f"splits({task!r}) fails", lambda: [str(split) for split in self._format.splits(task)])

    def _rows(self, wanted: Wanted, where: str) -> Iterator[Any]:
        number = 0
        try:
            for row in self._format.rows(wanted.task, wanted.split):
                yield row
                number += 1
        except UserError:
            raise
        except Exception as error:  # of any kind: it is code of others
            raise DataError(f"{where}: fails behind row {number} ({_line(error)}); mend it") from error

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except UserError:
            raise
        except Exception as error:  # of any kind
            raise DataError(f"{self._said}: {what} ({_line(error)}); mend it") from error


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
