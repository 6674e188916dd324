"""What is printed of a study: its ranking, score matrices, and the scores of its methods task by task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seekr_tune.analysis.configurations import TrialRow
from seekr_tune.analysis.final import Estimate
from seekr_tune.analysis.measures import FORMULAS
from seekr_tune.analysis.paper_tables import Cell, Column, PaperTable
from seekr_tune.analysis.ranking import Ranking
from seekr_tune.analysis.record import ScoredSplit
from seekr_tune.analysis.score_tables import MatrixTable, TaskRow
from seekr_tune.documents import parse_json

_RANKING = (
    Column("rank", "#", is_text=True),
    Column("trial", "configuration", is_text=True),
    Column("method", "method", is_text=True),
    Column("replicates", "n"),
    Column("op", "OP"),
    Column("bwt", "BWT", "+.2f"),
    Column("distinct_replayed_samples", "samples", ".4g"),
    Column("op_per_replayed_sample", "OP/sample", ".4g"),
    Column("normalised_gain", "gain"),
    Column("pareto", "front", is_text=True),
)
_OP, _BWT = Column("op", "OP"), Column("bwt", "BWT", "+.2f")
_ERRORS = "± is the standard error over n runs"


def ranking_table(ranking: Ranking, name: str, split: ScoredSplit) -> PaperTable:
    """The bounds, then the finished configurations with what the search chose.

    Args:
        ranking: of a study or a single run.
        name: of the study.
        split: which scores were ranked.
    """
    rows = [row for row in ranking.rows if row["status"] == "finished"]
    params = {row["trial"]: parse_json(row["params"]) for row in rows}
    searched = list(dict.fromkeys(path for own in params.values() for path in own if path != "method.name"))
    columns = (*_RANKING, *(_setting(path, params.values()) for path in searched))
    if ranking.by not in {column.name for column in columns}:
        columns = (*columns, Column(ranking.by, ranking.by.replace("_", " "), ".4g"))
    references = [row for row in ranking.bounds if row["status"] == "finished"]
    printed = {column.name: column.heading for column in columns}
    explained = dict.fromkeys(("op", "bwt", "normalised_gain", "op_per_replayed_sample", ranking.by))
    return PaperTable(
        label=f"{_label(name)}-ranking",
        caption=f"{name}: configurations ranked by {ranking.by}, on {split}",
        columns=columns,
        rows=tuple(_ranking_row(row, params.get(row["trial"], {}), columns) for row in (*references, *rows)),
        num_references=len(references),
        notes=(
            *(f"{printed[column]}: {FORMULAS[column]}" for column in explained if column in FORMULAS),
            "samples: distinct samples in the replay memory; * marks the Pareto front of OP over samples",
            *([_ERRORS] if any(row["op_se"] is not None for row in (*references, *rows)) else []),
        ),
    )


def matrix_table(matrix: MatrixTable, name: str, split: ScoredSplit) -> PaperTable:
    """A score matrix: a row after each task, a column for each task, then OP and BWT of the tasks learned so far."""
    tasks = tuple(Column(f"score/{task}", task) for task in matrix.order)
    hidden = (Column("configuration", None), Column("method", None), Column("n", None), Column("order", None))
    rows: list[dict[str, Cell]] = [
        {
            "configuration": matrix.configuration,
            "method": matrix.method,
            "n": matrix.n,
            "order": json.dumps(matrix.order),
            "trained": row.trained or "(before training)",
            **dict(zip((column.name for column in tasks), row.scores, strict=True)),
            "op": row.op,
            "bwt": row.bwt,
        }
        for row in matrix.rows
    ]
    runs = f"{matrix.n} run{'s' * (matrix.n != 1)}"
    return PaperTable(
        label=f"{_label(name)}-{_label(matrix.configuration)}",
        caption=f"{name}, {matrix.configuration} ({matrix.method}): scores on {split} in percent, {runs}",
        columns=(*hidden, Column("trained", "after task", is_text=True), *tasks, _OP, _BWT),
        rows=tuple(rows),
        num_references=sum(not row.trained for row in matrix.rows),
        notes=(
            "row: the task learned last; column: the task that was scored; - was not scored",
            "OP: mean over the tasks learned so far; BWT: mean change of all but the last since each was learned",
            *([_ERRORS] if matrix.n > 1 else []),
        ),
    )


def task_table(
    rows: Sequence[TaskRow],
    tasks: Sequence[str],
    name: str,
    split: ScoredSplit,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> PaperTable:
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
    columns = tuple(Column(f"score/{task}", task) for task in tasks)
    ordered = sorted(rows, key=lambda row: row.role != "bound")
    return PaperTable(
        label=f"{_label(name)}-tasks",
        caption=f"{name}: scores on {split} after the last task, in percent",
        columns=(
            Column("method", "method", is_text=True),
            *(_setting(path, told.values()) for path in paths),
            Column("configuration", "configuration", is_text=True),
            Column("n", "n"),
            *columns,
            _OP,
            _BWT,
        ),
        rows=tuple(
            {
                "method": row.method,
                **{path: _cell(told.get(row.configuration, {}).get(path)) for path in paths},
                "configuration": row.configuration,
                "n": row.n,
                **dict(zip((column.name for column in columns), row.scores, strict=True)),
                "op": row.op,
                "bwt": row.bwt,
            }
            for row in ordered
        ),
        num_references=sum(row.role == "bound" for row in ordered),
        notes=(f"OP: {FORMULAS['op']}", f"BWT: {FORMULAS['bwt']}", *([_ERRORS] if any(r.n > 1 for r in rows) else [])),
    )


def _ranking_row(row: TrialRow, params: Mapping[str, Any], columns: Iterable[Column]) -> dict[str, Cell]:
    values = {column.name: _cell(params.get(column.name, row.get(column.name))) for column in columns}
    return values | {"rank": str(row["rank"] or "-"), "op": Estimate(row["op"], row["op_se"]), "pareto": row["pareto"]}


def _setting(path: str, values: Iterable[Mapping[str, Any]]) -> Column:
    """The column of a setting, headed by the end of its path."""
    is_text = any(isinstance(own.get(path), str | list) for own in values)
    return Column(path, path.rpartition(".")[2].replace("_", " "), ".4g", is_text)


def _cell(value: Any) -> Cell:
    """A value of the ledger or of a config; lists as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _label(text: str) -> str:
    """Letters and digits, which a label may have, and `-` for all else."""
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in text)
