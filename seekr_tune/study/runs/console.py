"""Progress of runs on the console: a line for each finished task and trial, and a bar where there is a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from textwrap import shorten
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from seekr_tune.analysis.continual_metrics import overall_performance
from seekr_tune.analysis.gradients import dominant, told
from seekr_tune.analysis.measures import measure
from seekr_tune.config.facts import short_name
from seekr_tune.config.meaning import number_text
from seekr_tune.foreign_text import in_one_line
from seekr_tune.records import TrialRecord, score_matrix, tuning_split


@dataclass(frozen=True)
class TaskProgress:
    """A run that has finished a task.

    Attributes:
        trial: key of the run.
        task: the task that was finished.
        tasks_done, num_tasks: how far it is.
        op: mean score of the tasks learned so far, in percent; None if one of them was not evaluated.
        own: score of the task just learned, in percent; None if it was not evaluated.
        wall_seconds: time that the run took so far.
        warning: what is wrong with the run by what was measured; None if nothing is.
    """

    trial: str
    task: str
    tasks_done: int
    num_tasks: int
    op: float | None
    wall_seconds: float
    own: float | None = None
    warning: str | None = None

    @classmethod
    def of(cls, record: TrialRecord) -> TaskProgress:
        """How far a run is that has finished at least one task."""
        done, split = record.tasks_done, tuning_split(record)
        op = own = None
        if split:
            matrix = score_matrix(record, split)[:done, :done]
            op, last = overall_performance(matrix), float(matrix[-1, -1])
            own = None if math.isnan(last) else last
        found = dominant(record.replay[-1].shares) if record.replay else None
        warning = None if found is None else told(*found)
        return cls(record.trial, record.tasks[done - 1], done, len(record.tasks), op, record.wall_seconds, own, warning)

    @property
    def scored(self) -> str:
        """What is known of its scores: OP where all tasks so far were evaluated, else that of the last one."""
        return score_text(self.op, self.own)

    def as_metrics(self) -> dict[str, Any]:
        """As Ray reports it."""
        return asdict(self)


class ProgressConsole:
    """Shows runs as they go on.

    Args:
        console: where to print; None prints nothing.
        total: runs in all.
        done: runs that are finished before this launch.
    """

    def __init__(self, console: Console | None, total: int, done: int = 0) -> None:
        self._console = console or Console(quiet=True)
        self.total, self._done = total, done
        self._bar = Progress(
            TextColumn("runs"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("runs", total=total, completed=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def task_finished(self, progress: TaskProgress) -> None:
        """One line for a finished task."""
        self._print(
            f"{progress.trial}  task {progress.tasks_done}/{progress.num_tasks} {progress.task}  "
            f"{progress.scored}  {progress.wall_seconds:.1f} s"
        )
        if progress.warning is not None:
            self._print(f"{progress.trial}  warning: {progress.warning}")

    def run_finished(self, record: TrialRecord) -> None:
        """One line for a run that has ended."""
        self._done += 1
        self._bar.update(self._task, completed=self._done)
        where = f"{record.trial}  {record.status} ({self._done}/{self.total})"
        if record.status == "pruned":
            after = f"after task {record.tasks_done}/{len(record.tasks)}  {TaskProgress.of(record).scored}"
            self._print(f"{where}  {after}  {record.wall_seconds:.1f} s  {_settings(record)}")
            return
        if record.status == "failed":
            self._print(f"{where}  {shorten(record.error or '', 200)}")
            return
        measures = measure(record)
        replayed = measures.distinct_replayed_samples
        self._print(
            f"{where}  op {_percent(measures.op)}  {'?' if replayed is None else replayed} replayed samples"
            f"  {record.wall_seconds:.1f} s  {_settings(record)}"
        )

    def warn_of(self, notes: Iterable[str]) -> None:
        """A line of warning for each."""
        for note in notes:
            self._print(f"warning: {note}")

    def say(self, text: str) -> None:
        """One line."""
        self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(escape(in_one_line(text)), highlight=False, soft_wrap=True)


def score_text(op: float | None, own: float | None) -> str:
    """OP in words; where it is not known, the score of the task that was learned last."""
    return f"own {own:.1f} %" if op is None and own is not None else f"op {_percent(op)}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def _settings(record: TrialRecord) -> str:
    settings = ", ".join(f"{short_name(key)}={_short(key, value)}" for key, value in record.params.items())
    return settings or record.method


def _short(path: str, value: object) -> str:
    return number_text(path, value, ".4g") if isinstance(value, float) else str(value)
