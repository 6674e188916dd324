"""Importance of settings for people and programs: a terminal table, JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields

from rich import box
from rich.markup import escape
from rich.table import Table

from seekr_tune.analysis.hyperparameters import LEVEL, NUM_RESAMPLES, Importance
from seekr_tune.shown import csv_text


def terminal_importance_table(found: Sequence[Importance], objective: str, evaluator: str) -> Table:
    """One row a setting, the most important first."""
    table = Table(
        title=f"What {objective} depends on ({evaluator})",
        caption=f"interval: {LEVEL:.0%}, from {NUM_RESAMPLES} resamples of the configurations; n: configurations with "
        "the setting, among which it is judged; effect: rank correlation with the objective",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("setting", "importance", "interval", "n", "effect"):
        table.add_column(heading, justify="left" if heading == "setting" else "right")
    for one in found:
        effect = "-" if one.effect is None else f"{one.effect:+.2f}"
        cells = (f"{one.importance:.2f}", f"{one.low:.2f} to {one.high:.2f}", str(one.n), effect)
        table.add_row(escape(one.path), *cells)
    return table


def importance_json(found: Sequence[Importance]) -> str:
    """A list with one object a setting."""
    return json.dumps([asdict(one) for one in found], indent=2, allow_nan=False)


def importance_csv(found: Sequence[Importance]) -> str:
    """One line a setting; null is an empty cell."""
    return csv_text([field.name for field in fields(Importance)], (list(asdict(one).values()) for one in found))
