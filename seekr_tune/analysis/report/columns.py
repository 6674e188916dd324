"""The ranking as a table of the page: its columns, in groups, and what is said of a row beside its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from seekr_tune.analysis.configurations import TrialRow
from seekr_tune.analysis.glossary import METRICS, column, setting_column
from seekr_tune.analysis.ranking import Ranking
from seekr_tune.analysis.ranking_tables import searched_paths, with_settings
from seekr_tune.analysis.table import Column, Table
from seekr_tune.analysis.uncertainty import WITH_INTERVAL

GROUPS = {"score": "Scores", "replay": "Replay", "gain": "Gains", "setting": "Settings", "cost": "Cost"}
"""Groups of columns that a reader can hide; `SHOWN_GROUPS` are shown at first."""
SHOWN_GROUPS = ("score", "replay", "gain", "setting")

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "": ("rank", "trial", "method", "status", "replicates", "op"),
    "score": ("pareto", "op_floor", "op_ceiling", "tasks_learned", "p_best", "bwt", "fwt", "forgetting"),
    "replay": (
        *("distinct_replayed_samples", "stored_samples", "replay_presentations", "replay_tokens", "memory_bytes"),
        "state_bytes",
    ),
    "gain": (
        *("normalised_gain", "gain_per_replayed_sample", "op_per_replayed_sample", "op_per_presentation"),
        *("op_per_replayed_token", "op_per_replayed_byte"),
    ),
    "cost": ("wall_seconds", "shared_seconds", "tokens_per_second", "peak_memory_bytes", "flops_utilisation"),
}


@dataclass(frozen=True)
class Ends:
    """An interval."""

    low: float | None
    high: float | None

    def parts(self, name: str) -> Mapping[str, Any]:
        """`op_low` and `op_high`."""
        return {f"{name}_low": self.low, f"{name}_high": self.high}

    def text(self, number: Callable[[float | None], str]) -> str:
        """Both ends."""
        return number(None) if self.low is None else f"{number(self.low)} to {number(self.high)}"


def ranking_table(ranking: Ranking) -> Table:
    """Columns that have a value somewhere, and rows: bounds, then configurations in order."""
    rows = tuple(_row(row) for row in (*ranking.bounds, *ranking.rows))
    every = Table("", tuple(_columns(ranking)), rows)
    used = {one.name for row in rows for one, _, key in every.html(row) if key}
    columns = tuple(one for one in every.columns if one.name in used or not rows)
    return Table(f"Configurations by {ranking.by}", columns, rows, num_references=len(ranking.bounds))


def _columns(ranking: Ranking) -> Iterator[Column]:
    for group, names in _COLUMNS.items():
        for name in names:
            one = column(name, group)
            if name == "pareto":
                one = replace(one, name="front", meaning=f"{one.meaning}; knee: {METRICS['knee'].formula}")
            yield one
            if name in WITH_INTERVAL:
                meaning = METRICS[f"{name}_low"].formula
                yield replace(one, name=f"{name}_ends", heading=f"{one.heading} 95 % interval", meaning=meaning)
    yield from (setting_column(path) for path in searched_paths(ranking.rows) if path != "method.name")


def _row(row: TrialRow) -> dict[str, Any]:
    ends = {f"{name}_ends": Ends(row[f"{name}_low"], row[f"{name}_high"]) for name in WITH_INTERVAL}
    front = "knee" if row["knee"] else "front" if row["pareto"] else ""
    return {**with_settings(row), "op": row["op"], **ends, "front": front, "notes": tuple(_notes(row))}


def _notes(row: TrialRow) -> Iterator[str]:
    if row["role"] == "bound":
        yield "bound"
    elif row["beats_seqft"] is False:
        yield "not above no replay"
    if row["error"] is not None:
        yield f"error: {row['error']}"
