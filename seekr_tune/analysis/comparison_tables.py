"""A comparison of studies for people and programs: a terminal, Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from seekr_tune.analysis.comparison import Comparison, PairedScores, Side
from seekr_tune.analysis.final import Estimate
from seekr_tune.analysis.paper_tables import Cell, Column, PaperTable
from seekr_tune.analysis.uncertainty import LEVEL
from seekr_tune.config.meaning import number_text
from seekr_tune.documents import parse_json

_BEST = (
    Column("study", "study", is_text=True),
    Column("trial", "best", is_text=True),
    Column("method", "method", is_text=True),
    Column("replicates", "n"),
    Column("op", "OP"),
    Column("bwt", "BWT", "+.2f"),
    Column("distinct_replayed_samples", "samples", ".4g"),
    Column("op_seqft", "seqft"),
    Column("op_joint", "joint"),
    Column("params", "settings", is_text=True),
)
_PAIRS = (
    Column("what", "pair", is_text=True),
    Column("study", "against", is_text=True),
    Column("first", "first", is_text=True),
    Column("second", "second", is_text=True),
    Column("mean", "difference", "+.3g"),
    Column("interval", f"{100 * LEVEL:.0f} % interval", is_text=True),
    Column("n", "n"),
    Column("p_better", "P(better)"),
)


def comparison_tables(found: Comparison) -> list[PaperTable]:
    """Best configurations, differences of scores, differing settings; a table that would be empty is left out."""
    names, first = [side.name for side in found.sides], found.sides[0].name
    shown = ", ".join(names)
    extra = () if found.by in {column.name for column in _BEST} else (Column(found.by, found.by, ".4g"),)
    best = PaperTable("compare-best", f"{shown}: best by {found.by}", (*_BEST, *extra), tuple(map(_best, found.sides)))
    pairs = PaperTable(
        "compare-pairs",
        f"{found.by} of {first} minus {found.by} of the other, run by run in the same order, seed and memory draw",
        _PAIRS,
        tuple(map(_pair, found.pairs)),
    )
    settings = PaperTable(
        "compare-settings",
        f"{shown}: settings that differ",
        (Column("setting", "setting", is_text=True), *(Column(name, name, is_text=True) for name in names)),
        tuple(
            {"setting": path, **{name: _text(path, value) for name, value in zip(names, values, strict=True)}}
            for path, values in found.differing.items()
        ),
    )
    return [best, *(table for table in (pairs, settings) if table.rows)]


def comparison_json(found: Comparison) -> str:
    """One object; of each study its best configuration, and every number as it is."""
    value = {
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
    return json.dumps(value, indent=2, allow_nan=False)


def _best(side: Side) -> dict[str, Cell]:
    bounds: dict[str, Cell] = {"study": side.name, "op_seqft": side.bound("seqft"), "op_joint": side.bound("joint")}
    best = side.best
    if best is None:
        return bounds
    params = ", ".join(f"{path}={_text(path, value)}" for path, value in parse_json(best["params"]).items())
    numbers = {name: best[name] for name in ("trial", "method", "replicates", "bwt", "distinct_replayed_samples")}
    ranked = {side.ranking.by: best[side.ranking.by]}
    return {**numbers, **ranked, **bounds, "op": Estimate(best["op"], best["op_se"]), "params": params}


def _pair(pair: PairedScores) -> dict[str, Cell]:
    found = pair.difference
    interval = "" if found.low is None else f"[{found.low:+.3g}, {found.high:+.3g}]"
    keys: dict[str, Cell] = {"what": pair.what, "study": pair.study, "first": pair.first, "second": pair.second}
    return {**keys, "mean": found.mean, "interval": interval, "n": found.n, "p_better": found.p_better}


def _text(path: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return number_text(path, value, ".4g")
    return value if isinstance(value, str) else json.dumps(value)
