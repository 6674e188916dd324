"""A comparison of studies as tables, and as values for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from seekr_tune.analysis.comparison import Comparison, PairedScores, Side
from seekr_tune.analysis.glossary import column
from seekr_tune.analysis.inference import LEVEL
from seekr_tune.analysis.ranking_tables import with_settings
from seekr_tune.analysis.table import NOTHING, Column, Table
from seekr_tune.config.meaning import setting_text
from seekr_tune.documents import parse_json

_MEASURED = ("method", "replicates", "op", "bwt", "distinct_replayed_samples", "op_seqft", "op_joint")
_BEST = (
    Column("study", "study", is_text=True),
    Column("trial", "best", is_text=True),
    *map(column, _MEASURED),
    Column("params", "settings", is_text=True),
)
_PAIRS = (
    Column("what", "pair", is_text=True),
    Column("study", "against", is_text=True),
    Column("first", "first", is_text=True),
    Column("second", "second", is_text=True),
    Column("mean", "difference", "+.3g"),
    Column("interval", f"interval ({LEVEL:.0%})", is_text=True),
    Column("n", "n"),
    Column("p_flip", "p (signs)", ".2g"),
    Column("p_t", "p (t)", ".2g"),
    Column("verdict", "verdict", is_text=True),
)


def comparison_tables(found: Comparison) -> list[Table]:
    """Best configurations, differences of scores, differing settings; a table that would be empty is left out."""
    names = [side.name for side in found.sides]
    first = names[0] if len(names) > 1 else "the first"
    shown = ", ".join(names)
    extra = () if found.by in {one.name for one in _BEST} else (column(found.by),)
    best = Table(f"{shown}: best by {found.by}", (*_BEST, *extra), tuple(map(_best, found.sides)))
    pairs = Table(
        f"{found.by} of {first} minus {found.by} of the other, run by run in the same order, seed and memory draw",
        _PAIRS,
        tuple(map(_pair, found.pairs)),
    )
    settings = Table(
        f"{shown}: settings that differ",
        (Column("setting", "setting", is_text=True), *(Column(name, name, is_text=True) for name in names)),
        tuple(
            {"setting": path, **{name: _text(path, value) for name, value in zip(names, values, strict=True)}}
            for path, values in found.differing.items()
        ),
    )
    return [best, *(table for table in (pairs, settings) if table.rows)]


def comparison_values(found: Comparison) -> dict[str, Any]:
    """One object for JSON; of each study its best configuration, and every number as it is."""
    return {
        "by": found.by,
        "studies": [
            {
                "name": side.name,
                "directory": str(side.directory),
                "best": None if side.best is None else side.best["trial"],
                found.by: None if side.best is None else side.best[found.by],
                "op_seqft": side.bound("seqft"),
                "op_joint": side.bound("joint"),
                "params": None if side.best is None else parse_json(side.best["params"]),
            }
            for side in found.sides
        ],
        "differences": [{**asdict(pair), "difference": asdict(pair.difference)} for pair in found.pairs],
        "settings": found.differing,
        "notes": found.notes,
    }


def _best(side: Side) -> dict[str, Any]:
    bounds = {"study": side.name, "op_seqft": side.bound("seqft"), "op_joint": side.bound("joint")}
    if side.best is None:
        return bounds
    params = ", ".join(f"{path}={_text(path, value)}" for path, value in parse_json(side.best["params"]).items())
    return {**with_settings(side.best), **bounds, "params": params}


def _pair(pair: PairedScores) -> dict[str, Any]:
    low, high = pair.difference.low, pair.difference.high
    interval = "" if low is None else f"[{low:+.3g}, {high:+.3g}]"
    return {**vars(pair), **vars(pair.difference), "interval": interval}


def _text(path: str, value: Any) -> str:
    return NOTHING if value is None else setting_text(path, value)
