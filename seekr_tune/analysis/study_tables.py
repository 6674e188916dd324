"""Tables of scores: the matrix of a configuration, and what the methods of a study score task by task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from seekr_tune.analysis.glossary import column, setting_column
from seekr_tune.analysis.ranking_tables import ERRORS, label
from seekr_tune.analysis.score_tables import MatrixTable, TaskRow
from seekr_tune.analysis.table import Column, Estimate, Table
from seekr_tune.records import ScoredSplit

_MEANS = (column("op"), column("bwt"))


def matrix_table(matrix: MatrixTable, name: str, split: ScoredSplit) -> Table:
    """A score matrix: a row after each task, a column for each task, then OP and BWT of the tasks learned so far."""
    tasks = tuple(Column(f"score/{task}", task, ".2f") for task in matrix.order)
    hidden = map(Column, ("configuration", "method", "n", "order"))
    of_all = {**vars(matrix), "order": json.dumps(matrix.order)}
    rows = [
        {**of_all, **vars(row), **_scores(tasks, row.scores), "trained": row.trained or "(before training)"}
        for row in matrix.rows
    ]
    runs = f"{matrix.n} run{'s' * (matrix.n != 1)}"
    return Table(
        label=f"{label(name)}-{label(matrix.configuration)}",
        caption=f"{name}, {matrix.configuration} ({matrix.method}): scores on {split} in percent, {runs}",
        columns=(*hidden, Column("trained", "after task", is_text=True), *tasks, *_MEANS),
        rows=tuple(rows),
        num_references=sum(not row.trained for row in matrix.rows),
        notes=(
            "row: the task learned last; column: the task that was scored; - was not scored",
            "OP: mean over the tasks learned so far; BWT: mean change of all but the last since each was learned",
            *([ERRORS] if matrix.n > 1 else []),
        ),
    )


def task_table(
    rows: Sequence[TaskRow],
    tasks: Sequence[str],
    name: str,
    split: ScoredSplit,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Table:
    """Scores after the last task: a row for each configuration, bounds first; a column for each task, OP and BWT.

    Args:
        rows: the configurations.
        tasks: order of the columns.
        name: of the study.
        split: which scores.
        settings: by configuration, what tells it from others with its method, by config path.
    """
    told = settings or {}
    paths = list(dict.fromkeys(path for own in told.values() for path in own))
    columns = tuple(Column(f"score/{task}", task, ".2f") for task in tasks)
    ordered = sorted(rows, key=lambda row: row.role != "bound")
    return Table(
        label=f"{label(name)}-tasks",
        caption=f"{name}: scores on {split} after the last task, in percent",
        columns=(
            column("method"),
            *map(setting_column, paths),
            Column("configuration", "configuration", is_text=True),
            Column("n", "n"),
            *columns,
            *_MEANS,
        ),
        rows=tuple({**vars(row), **_scores(columns, row.scores), **told.get(row.configuration, {})} for row in ordered),
        num_references=sum(row.role == "bound" for row in ordered),
        notes=(*(f"{one.heading}: {one.meaning}" for one in _MEANS), *([ERRORS] if any(r.n > 1 for r in rows) else [])),
    )


def _scores(columns: Sequence[Column], scores: Sequence[Estimate]) -> dict[str, Estimate]:
    return {column.name: score for column, score in zip(columns, scores, strict=True)}
