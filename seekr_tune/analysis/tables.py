"""A ranking for people and programs: a terminal table, JSON and CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from seekr_tune.analysis.configurations import TrialRow, void_line
from seekr_tune.analysis.measures import FORMULAS
from seekr_tune.analysis.ranking import Ranking, StudyMeasures
from seekr_tune.config.meaning import number_text
from seekr_tune.documents import parse_json
from seekr_tune.shown import csv_text

_FIRST = (
    "rank",
    "trial",
    "role",
    "status",
    "method",
    "semantics",
    "op",
    "op_se",
    "op_low",
    "op_high",
    "op_floor",
    "op_ceiling",
    "tasks_learned",
    "replicates",
    "p_best",
    "bwt",
    "distinct_replayed_samples",
    "stored_samples",
    "replay_presentations",
    "op_per_replayed_sample",
    "normalised_gain",
    "normalised_gain_low",
    "normalised_gain_high",
    "gain_per_replayed_sample",
    "gain_per_replayed_sample_low",
    "gain_per_replayed_sample_high",
    "why_no_gain",
    "beats_seqft",
    "op_seqft",
    "op_joint",
    "pareto",
    "knee",
    "wall_seconds",
)
"""Columns that lead a row of JSON or CSV; the others follow in the ledger's order."""

_FEW_SETTINGS = 6
"""With fewer of them no bootstrap interval of a mean can cover 95 %, as `uncertainty` says."""

_JSON_COLUMNS = ("config", "params")
"""Columns that the ledger holds as JSON text and that JSON rows hold as objects."""


def terminal_table(ranking: Ranking) -> Table:
    """The ranking for a terminal of 120 columns: bounds first, then configurations in order.

    Marks: `*` on the front, `K` its knee, `!` not better than no replay. Where there are replicates, `n` says how many
    runs a row is the mean of, op has its standard error, and `best` is the probability of being first.
    """
    table = Table(
        title=f"{'Ranked' if ranking.void is None else 'No ranks; ordered'} by {ranking.by}",
        caption=_caption(ranking),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    searched = _searched(ranking.rows)
    extra = [] if _is_shown(ranking.by) else [ranking.by]
    every = (*ranking.bounds, *ranking.rows)
    replicated = any(row["replicates"] > 1 for row in every)
    headings = ("#", "trial", *["n"] * replicated, "op", "bwt", "samples", "shown", "op/\nsample", "gain", "P")
    for heading in (*headings, *["best"] * replicated):
        table.add_column(heading, justify="left" if heading == "trial" else "right", no_wrap=True)
    for path in (*searched, *extra):
        table.add_column(path.rsplit(".", 1)[-1].replace("_", "\n"), justify="right", overflow="fold")
    table.add_column("sec", justify="right", no_wrap=True)
    with_status = any(row["status"] != "finished" for row in every)  # else the settings need the room
    if with_status:
        table.add_column("status", no_wrap=True)
    for row in every:
        status = [row["status"]] if with_status else []
        table.add_row(*_cells(row, searched, extra, replicated), *status, style=None if row["rank"] else "dim")
    return table


def study_lines(study: StudyMeasures, is_declared: bool) -> list[str]:
    """What stands below the table: the numbers of the whole study, as far as it has bounds.

    Args:
        study: the numbers.
        is_declared: whether the sample range is that of the experiment file.
    """
    lines = []
    if study.hypervolume is not None and study.sample_range is not None:
        low, high = study.sample_range
        origin = "study.sample_range" if is_declared else "those of the study; declare study.sample_range to compare"
        lines.append(f"hypervolume {study.hypervolume:.4g} % x decades over {low:g} to {high:g} samples ({origin})")
    if any(samples is not None for samples in study.samples_to_target.values()):
        prices = study.samples_to_target.items()
        told = ", ".join(f"{share:.0%}: {'-' if samples is None else _count(samples)}" for share, samples in prices)
        lines.append(f"fewest samples that close a share of the gap to joint training: {told}")
    return lines


def void_lines(ranking: Ranking) -> list[str]:
    """Why no number says anything, or else why there are no gains; first of all that is said of a study."""
    if ranking.void is not None:
        return [void_line(ranking.void)]
    return [] if ranking.no_gap is None else [f"No gain, no knee, no hypervolume: {ranking.no_gap}."]


def json_rows(ranking: Ranking) -> list[dict[str, Any]]:
    """Trials as JSON values: the nested config instead of its flat columns, null instead of nan."""
    return [_json_row(row) for row in ranking.rows]


def to_json(ranking: Ranking) -> str:
    """`json_rows` as text: a list with one object a trial, in order."""
    return json.dumps(json_rows(ranking), indent=2, allow_nan=False)


def to_csv(ranking: Ranking) -> str:
    """Every column of the ledger as CSV with a heading, trials in order; null is an empty cell."""
    rows = [_ordered(row) for row in ranking.rows]
    columns = list(rows[0]) if rows else list(_FIRST)
    return csv_text(columns, ([_csv_cell(row[column]) for column in columns] for row in rows))


def _searched(rows: Sequence[TrialRow]) -> list[str]:
    """Paths that the search chose, in the order of the first trial that has them."""
    return list(dict.fromkeys(path for row in rows for path in parse_json(row["params"])))


def _cells(row: TrialRow, searched: Sequence[str], extra: Sequence[str], replicated: bool) -> list[str]:
    params: Mapping[str, Any] = parse_json(row["params"])
    return [
        str(row["rank"] or "-"),
        row["trial"],
        *[str(row["replicates"])] * replicated,
        _number(row["op"], "{:.2f}") + _error(row["op_se"]),
        _number(row["bwt"], "{:+z.2f}"),
        _count(row["distinct_replayed_samples"]),
        _count(row["replay_presentations"]),
        _number(row["op_per_replayed_sample"], "{:.4g}"),
        _number(row["normalised_gain"], "{:z.2f}"),
        _marks(row),
        *[_number(row["p_best"], "{:.2f}")] * replicated,
        *(_value_text(path, params[path]) if path in params and row["role"] == "trial" else "" for path in searched),
        *(_value_text(column.removeprefix("config."), row[column]) for column in extra),
        _number(row["wall_seconds"], "{:.1f}"),
    ]


def _is_shown(column: str) -> bool:
    return column in {
        "op",
        "op_se",
        "bwt",
        "distinct_replayed_samples",
        "replay_presentations",
        "op_per_replayed_sample",
        "normalised_gain",
        "wall_seconds",
    }


def _caption(ranking: Ranking) -> str:
    shown = dict.fromkeys(("op_per_replayed_sample", "normalised_gain", ranking.by))
    lines = [f"{column} = {FORMULAS[column]}" for column in shown if column in FORMULAS]
    meanings = {"*": "on the front", "K": "its knee", "!": "op is not above that of no replay"}
    used = "".join(map(_marks, ranking.rows))
    marks = [f"{mark} {meaning}" for mark, meaning in meanings.items() if mark in used]
    if marks:
        lines.append(f"P: {', '.join(marks)}")
    fewest = min((row["replicates"] for row in ranking.rows if row["p_best"] is not None), default=None)
    if fewest is not None:
        lines.append(
            f"best: how often first by {ranking.by} when settings (order, seed, memory draw) are drawn again"
            + (f"; {fewest} of them cannot tell much" if fewest < _FEW_SETTINGS else "")
        )
    return "\n".join(lines)


def _marks(row: TrialRow) -> str:
    buys_nothing = row["beats_seqft"] is False and row["role"] != "bound"
    return "*" * bool(row["pareto"]) + "K" * bool(row["knee"]) + "!" * buys_nothing


def _count(value: float | None) -> str:
    """A count, or the mean of several."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def _error(value: float | None) -> str:
    return "" if value is None else f" ±{value:.2f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else form.format(value)


def _value_text(path: str, value: Any) -> str:
    return escape(number_text(path, value, ".4g") if isinstance(value, float) else str(value))


def _ordered(row: TrialRow) -> TrialRow:
    return {column: row[column] for column in (*_FIRST, *(name for name in row if name not in _FIRST))}


def _json_row(row: TrialRow) -> dict[str, Any]:
    plain = {name: value for name, value in _ordered(row).items() if not name.startswith("config.")}
    return {name: _finite(parse_json(value) if name in _JSON_COLUMNS else value) for name, value in plain.items()}


def _finite(value: Any) -> Any:
    """The value with null in place of nan and the infinities, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value


def _csv_cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value)
    return None if isinstance(value, float) and math.isnan(value) else value
