"""Score matrices and final scores over the replicates of a configuration: the numbers behind printed tables.

A cell is the mean over runs, with its standard error: sample standard deviation / sqrt(n). Runs that learned the tasks
in different orders have different matrices, so there is one matrix for each order; the last row can be averaged over
all orders, for then every run has learned every task.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from seekr_tune.analysis.configurations import configuration_key, estimate
from seekr_tune.analysis.table import Estimate
from seekr_tune.records import (
    Role,
    ScoredSplit,
    Scores,
    TrialRecord,
    initial_scores,
    score_arrays,
    score_matrix,
)
from seekr_tune.stream.metrics import backward_transfer, overall_performance


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


@dataclass(frozen=True)
class MatrixRow:
    """The scores after one task.

    Attributes:
        trained: the task that was learned last; empty before any training.
        scores: of each task, in learning order.
        op: mean over the tasks learned so far; BWT over the tasks before the last one; null where a cell is missing.
    """

    trained: str
    scores: tuple[Estimate, ...]
    op: Estimate
    bwt: Estimate


@dataclass(frozen=True)
class MatrixTable:
    """The score matrix of a configuration in one order.

    Attributes:
        configuration, method: whose it is.
        order: tasks in learning order.
        n: runs that it is the mean of.
        rows: after each task that was scored; the first one before any training, if that was scored.
    """

    configuration: str
    method: str
    order: tuple[str, ...]
    n: int
    rows: tuple[MatrixRow, ...]


@dataclass(frozen=True)
class TaskRow:
    """The scores of a configuration after its last task.

    Attributes:
        configuration, role, method: whose they are.
        n: runs that they are the mean of, over all orders.
        scores: of each task, in the order of the table.
        op, bwt: of the whole stream.
    """

    configuration: str
    role: Role
    method: str
    n: int
    scores: tuple[Estimate, ...]
    op: Estimate
    bwt: Estimate


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


def matrix_tables(runs: Iterable[RunScores], configuration: str) -> tuple[MatrixTable, ...]:
    """The matrices of a configuration, one for each order in which it was run."""
    orders: dict[tuple[str, ...], list[RunScores]] = {}
    for run in runs:
        if run.configuration == configuration:
            orders.setdefault(run.order, []).append(run)
    return tuple(
        MatrixTable(configuration, own[0].method, order, len(own), tuple(_matrix_rows(own)))
        for order, own in orders.items()
    )


def task_rows(runs: Sequence[RunScores], configurations: Sequence[str], tasks: Sequence[str]) -> tuple[TaskRow, ...]:
    """The final scores of some configurations.

    Args:
        runs: of a study.
        configurations: which ones, in the order of the table; those without a finished run are left out.
        tasks: order of the columns.
    """
    groups: dict[str, list[RunScores]] = {}
    for run in runs:
        groups.setdefault(run.configuration, []).append(run)
    return tuple(_task_row(groups[key], tasks) for key in configurations if key in groups)


def _run(row: dict[str, Any], cells: Iterable[dict[str, Any]]) -> RunScores:
    order = tuple(row["tasks"])
    found = ((cell["trained_index"], cell["evaluated_index"], cell["score"]) for cell in cells)
    matrix, initial = score_arrays(found, len(order))
    return RunScores(configuration_key(row), row["role"], row["method"], order, matrix, initial)


def _matrix_rows(runs: Sequence[RunScores]) -> Iterable[MatrixRow]:
    first, nothing = runs[0], Estimate(None, None)
    if not all(np.isnan(run.initial).all() for run in runs):
        yield MatrixRow("", _cells([run.initial for run in runs]), nothing, nothing)
    for index, task in enumerate(first.order):
        rows = [run.scores[index] for run in runs]
        if not all(np.isnan(row).all() for row in rows):  # joint training has a last row only
            learned = [run.scores[: index + 1, : index + 1] for run in runs]
            op = estimate([overall_performance(matrix) for matrix in learned])
            yield MatrixRow(task, _cells(rows), op, estimate([backward_transfer(matrix) for matrix in learned]))


def _task_row(runs: Sequence[RunScores], tasks: Sequence[str]) -> TaskRow:
    first = runs[0]
    last = [run.scores[-1, [run.order.index(task) for task in tasks]] for run in runs]
    op = estimate([overall_performance(run.scores) for run in runs])
    bwt = estimate([backward_transfer(run.scores) for run in runs])
    return TaskRow(first.configuration, first.role, first.method, len(runs), _cells(last), op, bwt)


def _cells(rows: Sequence[Scores]) -> tuple[Estimate, ...]:
    """Column by column, over the runs."""
    return tuple(
        estimate([None if np.isnan(score) else float(score) for score in column]) for column in zip(*rows, strict=True)
    )
