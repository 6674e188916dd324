"""Writing a study's ledger again and again: rows of a run whose files have not changed are taken from the last one.

Heads and steps of all runs do not fit into memory, and to read every line of their files anew takes minutes; the
ledger has them as columns.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from seekr_tune.analysis.ledger import runs_in, table_path, write_erased_table, write_ledger
from seekr_tune.errors import StudyError
from seekr_tune.records import StepRow, heads_path, read_steps
from seekr_tune.records.heads import read_heads
from seekr_tune.study.directory.forgotten import read_erased
from seekr_tune.study.directory.layout import result_path
from seekr_tune.study.directory.records import read_all_records

_logger = logging.getLogger(__name__)

Stamp = tuple[tuple[int, ...] | None, ...]
"""Of files: while it stays the same, so do they. None: there is no such file."""


class LedgerWriter:
    """Writes a ledger from runs' directories; heads and steps are read where they have changed since it wrote last.

    A damaged file of one run costs that run's rows only, and is warned of once.

    Args:
        directory: holds `trials/`.
        ledger_directory: gets `ledger/`.
    """

    def __init__(self, directory: Path, ledger_directory: Path) -> None:
        self._directory, self._ledger_directory = directory, ledger_directory
        self._heads = _Rows(ledger_directory, "heads", self._files_of_heads, self._heads_of)
        self._steps = _Rows(ledger_directory, "steps", self._files_of_steps, self._steps_of)
        self._warned: set[str] = set()
        self._ended, self._took = -math.inf, 0.0

    def write_when_due(self) -> None:
        """Write, unless that would take more than a tenth of the time: a ledger of many runs takes long."""
        if time.monotonic() - self._ended >= 9 * self._took:
            self.write()

    def write(self) -> None:
        """Replace the tables by what the runs' directories hold now."""
        started = time.monotonic()
        records, damaged = read_all_records(self._directory)
        for message in damaged.values():
            self._warn(message)
        with self._heads.taken(), self._steps.taken():
            write_ledger(self._ledger_directory, records, self._steps, self._heads)
        if erased := read_erased(self._ledger_directory):
            write_erased_table(self._ledger_directory, erased)
        self._ended = time.monotonic()
        self._took = self._ended - started

    def _files_of_heads(self, trial: str) -> tuple[Path, ...]:
        path = result_path(self._directory, trial)
        return path, heads_path(path)

    def _heads_of(self, trial: str) -> pa.Table | Sequence[Any]:
        try:
            return read_heads(result_path(self._directory, trial))
        except StudyError as error:
            self._warn(str(error))
            return ()

    def _files_of_steps(self, trial: str) -> tuple[Path, ...]:
        return (result_path(self._directory, trial).with_name("steps.jsonl"),)

    def _steps_of(self, trial: str) -> Sequence[StepRow]:
        (path,) = self._files_of_steps(trial)
        try:
            return read_steps(path) if path.is_file() else ()
        except StudyError as error:
            self._warn(str(error))
            return ()

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            _logger.warning("not in the ledger: %s", message)


class _Rows:
    """The rows of one table, run by run: from the table itself as this process wrote it last, or from a run's files.

    Args:
        directory: with the ledger.
        name: of the table.
        files: by a run's key, where its rows come from.
        read: reads them there.
    """

    def __init__(
        self,
        directory: Path,
        name: Literal["heads", "steps"],
        files: Callable[[str], tuple[Path, ...]],
        read: Callable[[str], pa.Table | Sequence[Any]],
    ) -> None:
        self._directory, self._name, self._files, self._read = directory, name, files, read
        self._written: Stamp = ()
        self._known: dict[str, tuple[Stamp, int]] = {}
        self._now: dict[str, tuple[Stamp, int]] = {}
        self._kept: Iterator[tuple[str, pa.Table]] = iter(())

    @contextmanager
    def taken(self) -> Iterator[None]:
        """For the time of the block, each run may be asked for once; its end is that of a table with these rows."""
        path = table_path(self._directory, self._name)
        if _stamp(path) != self._written:  # it was changed by somebody else, or only half of the ledger was written
            self._known = {}
        self._now = {}
        with closing(runs_in(self._directory, self._name)) as self._kept:
            yield
        self._known, self._written = self._now, _stamp(path)

    def get(self, trial: str, default: Any, /) -> Any:
        """Those of one run."""
        stamp = _stamp(*self._files(trial))
        before, count = self._known.get(trial, (None, 0))
        rows = self._from_table(trial, count) if before == stamp else None
        if rows is None:
            rows = self._read(trial)
        self._now[trial] = (stamp, len(rows))
        return rows

    def _from_table(self, trial: str, count: int) -> pa.Table | Sequence[Any] | None:
        """Its rows; None where the table is damaged, or has its runs in another order."""
        if not count:
            return ()
        try:
            return next((rows for key, rows in self._kept if key == trial), None)
        except (pa.ArrowException, StudyError, OSError):
            return None


def _stamp(*paths: Path) -> Stamp:
    return tuple(_of_file(path) for path in paths)


def _of_file(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
