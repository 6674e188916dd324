"""A ranking task by task: what each configuration scores at the end, and how that changed since it was learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from seekr_tune.analysis.configurations import TrialRow, grouped, mean
from seekr_tune.analysis.glossary import column
from seekr_tune.analysis.ranking import Ranking
from seekr_tune.analysis.table import Column, Table

_NAMES = ("rank", "trial", "method", "status", "replicates", "op")


@dataclass(frozen=True)
class TaskScore:
    """One task of one configuration; means over its finished runs, null where one of them has no such score.

    Attributes:
        final: a[T, j], score in percent after the last task.
        change: a[T, j] - a[j, j], in points since the task was learned; below 0 it was forgotten. 0 for the last task.
    """

    final: float | None
    change: float | None

    def parts(self, name: str) -> Mapping[str, Any]:
        """`<task>` and `<task>_change`."""
        return {name: self.final, f"{name}_change": self.change}

    def text(self, number: Callable[[float | None], str]) -> str:
        """The score, and its change with a sign."""
        return number(self.final) + ("" if self.change is None else f" {self.change:+.2f}")


@dataclass(frozen=True)
class TaskRow:
    """One configuration, or a bound, with its scores by task; `row` is its row of the ranking."""

    row: TrialRow
    scores: Mapping[str, TaskScore]


def task_rows(ranking: Ranking, trials: pa.Table, scores: pa.Table) -> tuple[TaskRow, ...]:
    """Bounds, then configurations in the order of the ranking, each with every task of the study.

    Args:
        ranking: of `trials`.
        trials, scores: tables of the ledger.
    """
    cells = _cells(scores)
    groups = grouped(
        trials.select(["trial", "role", "configuration", "replicate", "status", "tasks", "split"]).to_pylist()
    )
    return tuple(
        TaskRow(row, _task_scores(groups[row["role"], row["trial"]], cells)) for row in (*ranking.bounds, *ranking.rows)
    )


def task_table(rows: Sequence[TaskRow], by: str) -> Table:
    """One row a configuration, one column a task: the final score, and its change since the task was learned."""
    tasks = dict.fromkeys(task for one in rows for task in one.scores)
    nothing = TaskScore(None, None)
    hidden = ("status", "replicates")
    named = [Column(name) if name in hidden else column(name) for name in _NAMES]
    return Table(
        caption=f"{'Ranked' if any(one.row['rank'] for one in rows) else 'No ranks; ordered'} by {by}",
        columns=(*named, *(Column(task, task, ".2f") for task in tasks)),
        rows=tuple({**one.row, **{task: one.scores.get(task, nothing) for task in tasks}} for one in rows),
        notes=("score in percent after the last task, and its change since the task was learned (below 0: forgotten)",),
        num_references=sum(one.row["role"] == "bound" for one in rows),
        num_unranked=sum(one.row["rank"] is None and one.row["role"] != "bound" for one in rows),
    )


def task_values(rows: Sequence[TaskRow]) -> list[dict[str, Any]]:
    """One object a row for JSON; `tasks` holds `final` and `change` of each."""
    return [
        {**{name: one.row[name] for name in _NAMES}, "tasks": {task: asdict(own) for task, own in one.scores.items()}}
        for one in rows
    ]


Cells = Mapping[tuple[str, str, int, str], float]
"""Scores by run, split, index of the trained task, and name of the evaluated one."""


def _cells(scores: pa.Table) -> Cells:
    columns = [scores[name].to_pylist() for name in ("trial", "split", "trained_index", "evaluated", "score")]
    return {(trial, split, trained, task): score for trial, split, trained, task, score in zip(*columns, strict=True)}


def _task_scores(runs: Sequence[TrialRow], cells: Cells) -> dict[str, TaskScore]:
    """Tasks in the order of the first run; runs that learned them in other orders are read by name."""
    counted = [run for run in runs if run["status"] == "finished"] or runs
    return {task: _mean([_score(run, task, cells) for run in counted]) for task in runs[0]["tasks"]}


def _score(run: TrialRow, task: str, cells: Cells) -> TaskScore:
    tasks: list[str] = run["tasks"]
    final = cells.get((run["trial"], run["split"], len(tasks) - 1, task))
    learned = cells.get((run["trial"], run["split"], tasks.index(task), task))
    return TaskScore(final, None if final is None or learned is None else final - learned)


def _mean(scores: Sequence[TaskScore]) -> TaskScore:
    return TaskScore(mean([one.final for one in scores]), mean([one.change for one in scores]))
