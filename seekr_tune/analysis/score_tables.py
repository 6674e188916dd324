"""Tables of scores: the matrix of a configuration, and what the methods of a study score task by task.

A cell is the mean over runs, with its standard error: sample standard deviation / sqrt(n). Runs that learned the tasks
in different orders have different matrices, so there is one matrix for each order; the last row can be averaged over
all orders, for then every run has learned every task.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from seekr_tune.analysis.configurations import configuration_key, estimate
from seekr_tune.analysis.continual_metrics import backward_transfer, overall_performance
from seekr_tune.analysis.glossary import column, setting_column
from seekr_tune.analysis.ranking_tables import ERRORS, label
from seekr_tune.analysis.table import Column, Estimate, Table
from seekr_tune.records import (
    Role,
    ScoredSplit,
    Scores,
    TrialRecord,
    initial_scores,
    score_arrays,
    score_matrix,
)

_MEANS = (column("op"), column("bwt"))
_UNTRAINED = "(before training)"


@dataclass(frozen=True, eq=False)
class RunScores:
    """What one finished run scored on one split.

    Attributes:
        configuration: key of the configuration that it is a replicate of; its own key where it stands alone.
        role: `trial`, `bound` or `run`.
        method: its method.
        order: T tasks in learning order.
        scores: `[T, T]` in percent: row = after training that task, column = evaluated task, nan = not evaluated.
        initial: before any training, `[T]`.
    """

    configuration: str
    role: Role
    method: str
    order: tuple[str, ...]
    scores: Scores
    initial: Scores


def run_scores(trials: pa.Table, scores: pa.Table, split: ScoredSplit) -> tuple[RunScores, ...]:
    """The finished runs of a ledger that were scored on a split.

    Args:
        trials, scores: tables of the ledger.
        split: which scores.
    """
    cells: dict[str, list[dict[str, Any]]] = {}
    for cell in scores.to_pylist():
        if cell["split"] == split:
            cells.setdefault(cell["trial"], []).append(cell)
    finished = [row for row in trials.to_pylist() if row["status"] == "finished" and row["trial"] in cells]
    return tuple(_run(row, cells[row["trial"]]) for row in finished)


def scores_of(record: TrialRecord, split: ScoredSplit) -> RunScores:
    """The scores of one run, from its record."""
    matrix, initial = score_matrix(record, split), initial_scores(record, split)
    return RunScores(record.configuration_key, record.role, record.method, record.tasks, matrix, initial)


def matrix_tables(runs: Iterable[RunScores], configuration: str, name: str, split: ScoredSplit) -> tuple[Table, ...]:
    """The score matrices of a configuration, one for each order in which it was run.

    A row after each task that was scored (the first one before any training, if that was), a column for each task, then
    OP and BWT of the tasks learned so far; null where a cell is missing.

    Args:
        runs: of a study or a single run.
        configuration: its key.
        name: of the study.
        split: which scores.
    """
    orders: dict[tuple[str, ...], list[RunScores]] = {}
    for run in runs:
        if run.configuration == configuration:
            orders.setdefault(run.order, []).append(run)
    return tuple(_matrix_table(own, name, split) for own in orders.values())


def task_table(
    runs: Sequence[RunScores],
    configurations: Sequence[str],
    tasks: Sequence[str],
    name: str,
    split: ScoredSplit,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Table:
    """Scores after the last task, over all orders: a row for each configuration, bounds first; a column for each task.

    Args:
        runs: of a study or a single run.
        configurations: which ones, in the order of the table; those without a finished run are left out.
        tasks: order of the columns.
        name: of the study.
        split: which scores.
        settings: by configuration, what tells it from others with its method, by config path.
    """
    told = settings or {}
    groups: dict[str, list[RunScores]] = {}
    for run in runs:
        groups.setdefault(run.configuration, []).append(run)
    shown = sorted((groups[key] for key in configurations if key in groups), key=lambda own: own[0].role != "bound")
    return Table(
        label=f"{label(name)}-tasks",
        caption=f"{name}: scores on {split} after the last task, in percent",
        columns=(
            column("method"),
            *map(setting_column, dict.fromkeys(path for own in told.values() for path in own)),
            Column("configuration", "configuration", is_text=True),
            Column("n", "n"),
            *_score_columns(tasks),
            *_MEANS,
        ),
        rows=tuple({**_task_row(own, tasks), **told.get(own[0].configuration, {})} for own in shown),
        num_references=sum(own[0].role == "bound" for own in shown),
        notes=(
            *(f"{one.heading}: {one.meaning}" for one in _MEANS),
            *([ERRORS] if any(len(own) > 1 for own in shown) else []),
        ),
    )


def _run(row: dict[str, Any], cells: Iterable[dict[str, Any]]) -> RunScores:
    order = tuple(row["tasks"])
    found = ((cell["trained_index"], cell["evaluated_index"], cell["score"]) for cell in cells)
    matrix, initial = score_arrays(found, len(order))
    return RunScores(configuration_key(row), row["role"], row["method"], order, matrix, initial)


def _matrix_table(runs: Sequence[RunScores], name: str, split: ScoredSplit) -> Table:
    first, n = runs[0], len(runs)
    hidden = {"configuration": first.configuration, "method": first.method, "n": n, "order": json.dumps(first.order)}
    rows = [{**hidden, **row} for row in _matrix_rows(runs)]
    return Table(
        label=f"{label(name)}-{label(first.configuration)}",
        caption=f"{name}, {first.configuration} ({first.method}): scores on {split} in percent, "
        f"{n} run{'s' * (n != 1)}",
        columns=(
            *map(Column, hidden),
            Column("trained", "after task", is_text=True),
            *_score_columns(first.order),
            *_MEANS,
        ),
        rows=tuple(rows),
        num_references=sum(row["trained"] == _UNTRAINED for row in rows),
        notes=(
            "row: the task learned last; column: the task that was scored; - was not scored",
            "OP: mean over the tasks learned so far; BWT: mean change of all but the last since each was learned",
            *([ERRORS] if n > 1 else []),
        ),
    )


def _matrix_rows(runs: Sequence[RunScores]) -> Iterator[dict[str, Any]]:
    order = runs[0].order
    if not all(np.isnan(run.initial).all() for run in runs):
        nothing = Estimate(None, None)
        yield {"trained": _UNTRAINED, **_cells(order, [run.initial for run in runs]), "op": nothing, "bwt": nothing}
    for index, task in enumerate(order):
        rows = [run.scores[index] for run in runs]
        if not all(np.isnan(row).all() for row in rows):  # joint training has a last row only
            learned = [run.scores[: index + 1, : index + 1] for run in runs]
            yield {"trained": task, **_cells(order, rows), **_means(learned)}


def _task_row(runs: Sequence[RunScores], tasks: Sequence[str]) -> dict[str, Any]:
    first = runs[0]
    last = [run.scores[-1, [run.order.index(task) for task in tasks]] for run in runs]
    named = {"configuration": first.configuration, "method": first.method, "n": len(runs)}
    return {**named, **_cells(tasks, last), **_means([run.scores for run in runs])}


def _means(matrices: Sequence[Scores]) -> dict[str, Estimate]:
    return {
        "op": estimate([overall_performance(matrix) for matrix in matrices]),
        "bwt": estimate([backward_transfer(matrix) for matrix in matrices]),
    }


def _score_columns(tasks: Sequence[str]) -> Iterator[Column]:
    return (Column(f"score/{task}", task, ".2f") for task in tasks)


def _cells(tasks: Sequence[str], rows: Sequence[Scores]) -> dict[str, Estimate]:
    """By column of a task, over the runs."""
    return {
        f"score/{task}": estimate([None if np.isnan(score) else float(score) for score in scores])
        for task, scores in zip(tasks, zip(*rows, strict=True), strict=True)
    }
