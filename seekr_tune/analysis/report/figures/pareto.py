"""Performance over the price that was paid for it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from seekr_tune.analysis.configurations import TrialRow, is_point
from seekr_tune.analysis.ranking import Ranking
from seekr_tune.analysis.report.figures.style import BLACK, GREY, VERMILION, figure, label, log_axis, mark_of_method

_LINES = {"joint": ("joint training", "dash", BLACK), "seqft": ("no replay", "dot", GREY)}


def pareto_figure(ranking: Ranking) -> go.Figure:
    """OP of every finished configuration over its distinct replayed samples, with the front, the knee and the bounds.

    Bars are the intervals of the ranking. Configurations without replayed samples have no place on a logarithmic
    axis and are not drawn.
    """
    points = [row for row in ranking.rows if has_place(row)]
    made = figure(
        height=480,
        xaxis={"title": "distinct replayed samples", **log_axis([row["distinct_replayed_samples"] for row in points])},
        yaxis={"title": "OP, %"},
        hovermode="closest",
    )
    _add_front(made, [row for row in points if row["pareto"]])
    for method in dict.fromkeys(row["method"] for row in points):
        _add_points(made, method, [row for row in points if row["method"] == method])
    _add_knee(made, [row for row in points if row["knee"]])
    for bound in ("joint", "seqft"):
        _add_bound(made, bound, [row["op"] for row in ranking.bounds if row["method"] == bound and is_point(row)])
    return made.update_layout(showlegend=True, meta={"narrow": {"height": 520}})


def has_place(row: TrialRow) -> bool:
    """Whether a configuration can be drawn: finished, scored, and with samples that were replayed."""
    return is_point(row) and bool(row["distinct_replayed_samples"])


def _add_points(made: go.Figure, method: str, rows: Sequence[TrialRow]) -> None:
    colour, symbol, _ = mark_of_method(method)
    made.add_scatter(
        x=[row["distinct_replayed_samples"] for row in rows],
        y=[round(row["op"], 3) for row in rows],
        error_y=_error_bars(rows),
        mode="markers",
        name=label(method),
        marker={"color": colour, "symbol": symbol, "size": 10, "line": {"color": "white", "width": 1}},
        customdata=[[label(row["trial"]), str(row["rank"]), str(row["replicates"])] for row in rows],
        hovertemplate="<b>%{customdata[0]}</b>, rank %{customdata[1]}, n = %{customdata[2]}<br>OP %{y:.2f} %, "
        "%{x:.5~g} samples",
    )


def _error_bars(rows: Sequence[TrialRow]) -> dict[str, Any]:
    above = [_distance(row["op"], row["op_high"]) for row in rows]
    below = [_distance(row["op"], row["op_low"]) for row in rows]
    return {"type": "data", "array": above, "arrayminus": below, "thickness": 1, "width": 3}


def _distance(value: float, end: float | None) -> float | None:
    return None if end is None else round(abs(end - value), 3)


def _add_front(made: go.Figure, front: Sequence[TrialRow]) -> None:
    """The best OP that is had for so many samples: steps, for nothing between two configurations was tried."""
    ordered = sorted(front, key=lambda row: (row["distinct_replayed_samples"], row["op"]))
    made.add_scatter(
        x=[row["distinct_replayed_samples"] for row in ordered],
        y=[round(row["op"], 3) for row in ordered],
        mode="lines",
        name="Pareto front",
        line={"color": BLACK, "width": 1.5, "shape": "hv"},
        hoverinfo="skip",
    )


def _add_knee(made: go.Figure, knees: Sequence[TrialRow]) -> None:
    if knees:
        made.add_scatter(
            x=[row["distinct_replayed_samples"] for row in knees],
            y=[row["op"] for row in knees],
            mode="markers",
            name="knee",
            marker={"symbol": "circle-open", "size": 22, "color": VERMILION, "line": {"width": 2.5}},
            hoverinfo="skip",
        )


def _add_bound(made: go.Figure, bound: str, ops: Sequence[float]) -> None:
    """A line at the mean OP of a bound, over its orders and seeds."""
    if ops:
        name, dash, colour = _LINES[bound]
        text = f"{name} {fmean(ops):.1f} %"
        made.add_hline(
            y=fmean(ops),
            line={"dash": dash, "color": colour, "width": 1.5},
            annotation={"text": text, "xanchor": "right", "x": 1, "yanchor": "bottom", "showarrow": False},
        )
