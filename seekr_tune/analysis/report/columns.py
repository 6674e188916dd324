"""The ranking as a table of the page: its columns, what each of them means, and its cells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from seekr_tune.analysis.configurations import TrialRow
from seekr_tune.analysis.measures import FORMULAS
from seekr_tune.analysis.ranking import Ranking
from seekr_tune.analysis.report.figures.settings import searched_paths
from seekr_tune.analysis.report.texts import NOTHING, count, interval, number, setting, short_path
from seekr_tune.documents import parse_json

GROUPS = {"score": "Scores", "replay": "Replay", "gain": "Gains", "setting": "Settings", "cost": "Cost"}
"""Groups of columns that a reader can hide; `SHOWN_GROUPS` are shown at first."""
SHOWN_GROUPS = ("score", "replay", "gain", "setting")


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        key: column of the ranking, or config path of a setting.
        heading: short name.
        meaning: its formula.
        group: of `GROUPS`; empty: always shown.
        is_text: whether it is sorted as text.
    """

    key: str
    heading: str
    meaning: str
    group: str
    is_text: bool = False


@dataclass(frozen=True)
class Cell:
    """What is shown, and what it is sorted by (empty where there is no value: sorted last)."""

    text: str
    sort: str


@dataclass(frozen=True)
class TableRow:
    """A configuration or a bound.

    Attributes:
        trial, method, status: of it.
        is_bound: whether it is a reference, which is not ranked.
        notes: what is to be said of it beside its name.
        cells: by key of the column.
    """

    trial: str
    method: str
    status: str
    is_bound: bool
    notes: tuple[str, ...]
    cells: dict[str, Cell]


@dataclass(frozen=True)
class RankingTable:
    """Columns that have a value somewhere, and rows: bounds, then configurations in order."""

    columns: tuple[Column, ...]
    bounds: tuple[TableRow, ...]
    rows: tuple[TableRow, ...]


def _form(form: str) -> Callable[[Any], str]:
    return lambda value: number(value, form)


_NUMBERS: tuple[tuple[str, str, str, Callable[[Any], str]], ...] = (
    # column, heading, group, text
    ("replicates", "n", "", count),
    ("op", "OP %", "", _form(".2f")),
    ("op_floor", "floor %", "score", _form(".1f")),
    ("op_ceiling", "ceiling %", "score", _form(".1f")),
    ("tasks_learned", "tasks learned", "score", count),
    ("p_best", "P(best)", "score", _form(".2f")),
    ("bwt", "BWT", "score", _form("+.2f")),
    ("fwt", "FWT", "score", _form("+.2f")),
    ("forgetting", "forgetting", "score", _form(".2f")),
    ("distinct_replayed_samples", "distinct samples", "replay", count),
    ("stored_samples", "stored", "replay", count),
    ("replay_presentations", "times shown", "replay", count),
    ("replay_tokens", "tokens", "replay", count),
    ("memory_bytes", "bytes", "replay", count),
    ("normalised_gain", "gain", "gain", _form(".3f")),
    ("gain_per_replayed_sample", "gain / sample", "gain", _form(".4~")),
    ("op_per_replayed_sample", "OP / sample", "gain", _form(".4~")),
    ("op_per_presentation", "OP / showing", "gain", _form(".4~")),
    ("op_per_replayed_token", "OP / token", "gain", _form(".4~")),
    ("op_per_replayed_byte", "OP / byte", "gain", _form(".4~")),
    ("wall_seconds", "seconds", "cost", _form(".1f")),
    ("shared_seconds", "seconds spared", "cost", _form(".1f")),
    ("tokens_per_second", "tokens / s", "cost", _form(",.0f")),
    ("peak_memory_bytes", "peak bytes", "cost", count),
    ("flops_utilisation", "FLOPs used", "cost", _form(".3f")),
)
_WITH_INTERVAL = {"op": ".1f", "normalised_gain": ".2f", "gain_per_replayed_sample": ".3g"}


def ranking_table(ranking: Ranking) -> RankingTable:
    """The table of a ranking."""
    every = (*ranking.bounds, *ranking.rows)
    rows = {id(row): _row(row, list(_columns(ranking))) for row in every}
    used = tuple(column for column in _columns(ranking) if any(row.cells[column.key].sort for row in rows.values()))
    return RankingTable(
        columns=used,
        bounds=tuple(rows[id(row)] for row in ranking.bounds),
        rows=tuple(rows[id(row)] for row in ranking.rows),
    )


def _columns(ranking: Ranking) -> Iterator[Column]:
    yield Column("rank", "#", f"place by {ranking.by}, the better first; what did not finish has none", "")
    yield Column("trial", "configuration", "its key: the directory of its first run", "", is_text=True)
    yield Column("method", "method", "method.name", "", is_text=True)
    yield Column("status", "status", "finished: all its replicates are; only these are ranked", "", is_text=True)
    for key, heading, group, _ in _NUMBERS:
        yield Column(key, heading, FORMULAS[key], group)
        if key in _WITH_INTERVAL:
            of = heading.removesuffix(" %")
            yield Column(f"{key}_interval", f"{of} 95 % interval", FORMULAS[f"{key}_low"], group)
        if key == "op":
            yield Column("front", "front", f"{FORMULAS['pareto']}; knee: {FORMULAS['knee']}", "score", is_text=True)
    for path in searched_paths(ranking.rows):
        if path != "method.name":  # it has a column of its own
            yield Column(path, short_path(path).replace("_", " "), f"searched setting {path}", "setting")


def _row(row: TrialRow, columns: Sequence[Column]) -> TableRow:
    return TableRow(
        trial=row["trial"],
        method=row["method"],
        status=row["status"],
        is_bound=row["role"] == "bound",
        notes=tuple(_notes(row)),
        cells={column.key: _cell(row, column) for column in columns},
    )


def _notes(row: TrialRow) -> Iterator[str]:
    if row["role"] == "bound":
        yield "bound"
    elif row["beats_seqft"] is False:
        yield "not above no replay"
    if row["error"] is not None:
        yield f"error: {row['error']}"


_TEXTS = {key: text for key, _, _, text in _NUMBERS}


def _cell(row: TrialRow, column: Column) -> Cell:
    key = column.key
    if key == "front":
        mark = "knee" if row["knee"] else "front" if row["pareto"] else ""
        return Cell(mark, mark)
    if key.endswith("_interval"):
        low, high = row[f"{key.removesuffix('_interval')}_low"], row[f"{key.removesuffix('_interval')}_high"]
        text = interval(low, high, _WITH_INTERVAL[key.removesuffix("_interval")])
        return Cell(text, "" if low is None else repr(low))
    if column.group == "setting":
        value = parse_json(row["params"]).get(key) if row["role"] != "bound" else None
        return Cell(NOTHING if value is None else setting(key, value), "" if value is None else _sort(value))
    value = row[key]
    text = _TEXTS[key](value) if key in _TEXTS else NOTHING if value is None else str(value)
    return Cell(text, "" if text == NOTHING else _sort(value))


def _sort(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
