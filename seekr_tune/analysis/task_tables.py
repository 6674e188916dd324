"""Scores by task for people and programs: a terminal table, JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from seekr_tune.analysis.tasks import TaskRow, TaskScore
from seekr_tune.shown import csv_text

_NAMES = ("rank", "trial", "method", "status", "replicates", "op")


def terminal_task_table(rows: Sequence[TaskRow], by: str) -> Table:
    """One row a configuration, one column a task: the final score, and its change since the task was learned."""
    table = Table(
        title=f"{'Ranked' if any(one.row['rank'] for one in rows) else 'No ranks; ordered'} by {by}",
        caption="score in percent after the last task, and its change since the task was learned (below 0: forgotten)",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    tasks = _tasks(rows)
    for heading in ("#", "trial", "method", "op", *tasks):
        table.add_column(
            escape(heading), justify="left" if heading in ("trial", "method") else "right", overflow="fold"
        )
    for one in rows:
        op = "-" if one.row["op"] is None else f"{one.row['op']:.2f}"
        scores = [_text(one.scores.get(task)) for task in tasks]
        cells = (str(one.row["rank"] or "-"), one.row["trial"], one.row["method"], op, *scores)
        table.add_row(*map(escape, cells), style=None if one.row["rank"] else "dim")
    return table


def task_json(rows: Sequence[TaskRow]) -> str:
    """A list with one object a row; `tasks` holds `final` and `change` of each."""
    return json.dumps(
        [
            {
                **{name: one.row[name] for name in _NAMES},
                "tasks": {task: {"final": own.final, "change": own.change} for task, own in one.scores.items()},
            }
            for one in rows
        ],
        indent=2,
        allow_nan=False,
    )


def task_csv(rows: Sequence[TaskRow]) -> str:
    """One line a row; every task has two columns, `<task>` and `<task>_change`; null is an empty cell."""
    tasks = _tasks(rows)
    columns = [*_NAMES, *(name for task in tasks for name in (task, f"{task}_change"))]
    return csv_text(columns, (_csv_cells(one, tasks) for one in rows))


def _csv_cells(one: TaskRow, tasks: Sequence[str]) -> list[Any]:
    scores = [one.scores.get(task, TaskScore(None, None)) for task in tasks]
    return [*(one.row[name] for name in _NAMES), *(value for score in scores for value in (score.final, score.change))]


def _tasks(rows: Sequence[TaskRow]) -> list[str]:
    return list(dict.fromkeys(task for one in rows for task in one.scores))


def _text(score: TaskScore | None) -> str:
    if score is None or score.final is None:
        return "-"
    return f"{score.final:.2f}" if score.change is None else f"{score.final:.2f} {score.change:+.2f}"
