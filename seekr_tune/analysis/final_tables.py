"""A final table for people and programs: a terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from seekr_tune.analysis.final import FINAL_COLUMNS, Estimate, FinalRow, FinalTable
from seekr_tune.analysis.paper_tables import escape_markdown
from seekr_tune.shown import csv_text

_HEADINGS = {"distinct_replayed_samples": "samples", "normalised_gain": "gain"}
_FORMS = {"op": ".2f", "bwt": "+.2f", "forgetting": ".2f", "distinct_replayed_samples": ".1f", "normalised_gain": ".3f"}


def terminal_final_table(table: FinalTable) -> Table:
    """The table for a terminal of 120 columns."""
    shown = Table(
        title="On test: mean ± standard error over n runs",
        caption="\n".join(map(escape, _notes(table))),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for number, heading in enumerate(_headings(table)):
        shown.add_column(escape(heading), justify="left" if number < 2 else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*map(escape, _cells(row)), style="dim" if row.role == "bound" else None)
    return shown


def final_markdown(table: FinalTable) -> str:
    """The table as Markdown, with what it means below."""
    lines = [_headings(table), ["---"] * 2 + ["---:"] * (len(_headings(table)) - 2), *map(_cells, table.rows)]
    rows = [f"| {' | '.join(map(escape_markdown, line))} |" for line in lines]
    settings = [f"- {escape_markdown(f'{row.configuration}: {_params(row)}')}" for row in table.rows if row.params]
    notes = [f"- {escape_markdown(note)}" for note in _notes(table)]
    return "\n".join(["On test: mean ± standard error over n runs.", "", *rows, "", *notes, *settings, ""])


def final_csv(table: FinalTable) -> str:
    """One line a row; every estimate has two columns, `op` and `op_se`; null is an empty cell."""
    rows = [_flat(row, table.by) for row in table.rows]
    columns = list(rows[0]) if rows else []
    return csv_text(columns, ([row[name] for name in columns] for row in rows))


def final_json(table: FinalTable) -> str:
    """The whole table as one object."""
    return json.dumps(asdict(table), indent=2, allow_nan=False)


def _headings(table: FinalTable) -> list[str]:
    return ["", "method", "n", *(_HEADINGS.get(column, column) for column in FINAL_COLUMNS), f"{table.by} in tuning"]


def _cells(row: FinalRow) -> list[str]:
    n = f"{row.n} ({row.failed} failed)" if row.failed else str(row.n)
    tuned = "-" if row.tuned is None else f"{row.tuned:.6g}"
    estimates = [_estimate(row.estimates[column], _FORMS[column]) for column in FINAL_COLUMNS]
    return [row.configuration, row.method, n, *estimates, tuned]


def _estimate(value: Estimate, form: str) -> str:
    if value.mean is None:
        return "-"
    error = "" if value.error is None else f" ± {value.error:{form.lstrip('+')}}"
    return f"{value.mean:{form}}{error}"


def _notes(table: FinalTable) -> Iterator[str]:
    yield from (f"WARNING: {line}" for line in table.warnings)
    yield table.protocol
    yield f"chosen: {table.rule}"
    orders = ", ".join(f"[{', '.join(order)}]" for order in table.orders)
    yield f"runs: orders {orders}; seeds {_numbers(table.seeds)}; memory draws {_numbers(table.memory_draws)}"
    gains = [row.estimates["normalised_gain"].mean for row in table.rows]
    if any(gain is not None for gain in gains):
        yield "gain: (op - op_seqft) / (op_joint - op_seqft), within each order and seed, then averaged"
    elif not table.warnings and {"seqft", "joint"} <= {row.method for row in table.rows if row.role == "bound"}:
        yield "gain: not defined, for in one of the orders and seeds joint training is not better than seqft"


def _numbers(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def _params(row: FinalRow) -> str:
    return ", ".join(f"{path}={json.dumps(value)}" for path, value in row.params.items())


def _flat(row: FinalRow, by: str) -> dict[str, Any]:
    flat: dict[str, Any] = {"configuration": row.configuration, "role": row.role, "method": row.method, "n": row.n}
    flat["failed"] = row.failed
    for column, value in row.estimates.items():
        flat |= {column: value.mean, f"{column}_se": value.error}
    return flat | {f"tuned_{by}": row.tuned, "params": json.dumps(dict(row.params))}
