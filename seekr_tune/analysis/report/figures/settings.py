"""What the searched settings do, one by one, and how much each of them matters."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import plotly.graph_objects as go

from seekr_tune.analysis.configurations import TrialRow, is_point
from seekr_tune.analysis.hyperparameters import Importance
from seekr_tune.analysis.ranking_tables import searched_paths
from seekr_tune.analysis.report.figures.style import (
    BLUE,
    LEGEND_ON_TOP,
    figure,
    label,
    log_axis,
    mark_of_method,
    panel_position,
    panels,
)
from seekr_tune.analysis.report.texts import short_path
from seekr_tune.config.meaning import on_one_scale
from seekr_tune.documents import parse_json

_COLUMNS = 3


def slice_figure(rows: Sequence[TrialRow], objective: str, logarithmic: Collection[str] = ()) -> go.Figure | None:
    """The objective of every finished configuration over each searched setting.

    Args:
        rows: of a ranking.
        objective: a numeric column.
        logarithmic: paths that are drawn on a logarithmic axis.

    Returns:
        The figure; None where no configuration has a value, or nothing was searched.
    """
    points = [row for row in rows if is_point(row) and row[objective] is not None]
    paths = searched_paths(points)
    if not paths:
        return None
    made = panels([label(path) for path in paths], _COLUMNS, 180, top=70)
    methods = list(dict.fromkeys(row["method"] for row in points))
    legend_of: set[str] = set()
    for index, path in enumerate(paths):
        position = panel_position(index, min(_COLUMNS, len(paths)))
        values = [value for row in points if (value := parse_json(row["params"]).get(path)) is not None]
        are_numbers = on_one_scale(path, values)
        if path in logarithmic and are_numbers:
            made.update_xaxes(log_axis([value for value in values if value]), **position)
        for method in methods:
            own = [row for row in points if row["method"] == method and path in parse_json(row["params"])]
            if own:
                made.add_trace(_slice(own, path, objective, method, method not in legend_of, are_numbers), **position)
                legend_of.add(method)
    made.update_yaxes(title_text=label(short_path(objective)), col=1)
    return made.update_layout(showlegend=True, legend=LEGEND_ON_TOP)


def importance_figure(importances: Sequence[Importance]) -> go.Figure:
    """A bar for each searched setting, the most important one on top, with intervals.

    Args:
        importances: the most important first.
    """
    ordered = importances[::-1]  # plotly draws from below
    made = figure(
        120 + 34 * len(ordered),
        xaxis={"title": "importance", "rangemode": "tozero"},
        yaxis={"type": "category"},
    )
    return made.add_bar(
        x=[round(one.importance, 4) for one in ordered],
        y=[label(one.path) for one in ordered],
        orientation="h",
        marker={"color": BLUE},
        error_x={
            "type": "data",
            "array": [_distance(one.importance, one.high) for one in ordered],
            "arrayminus": [_distance(one.importance, one.low) for one in ordered],
        },
        customdata=[[one.n, "none" if one.effect is None else f"{one.effect:+.2f}", f"{one.p:.2g}"] for one in ordered],
        hovertemplate="%{y}: %{x:.2f}, p = %{customdata[2]}<br>n = %{customdata[0]}, rank correlation %{customdata[1]}"
        "<extra></extra>",
    )


def _slice(
    rows: Sequence[TrialRow], path: str, objective: str, method: str, in_legend: bool, are_numbers: bool
) -> go.Scatter:
    colour, symbol, _ = mark_of_method(method)
    values = [parse_json(row["params"])[path] for row in rows]
    return go.Scatter(
        x=values if are_numbers else [label(_text(value)) for value in values],
        y=[round(row[objective], 4) for row in rows],
        mode="markers",
        name=label(method),
        legendgroup=method,
        showlegend=in_legend,
        marker={"color": colour, "symbol": symbol, "size": 8, "opacity": 0.8},
        customdata=[[label(row["trial"])] for row in rows],
        hovertemplate="<b>%{customdata[0]}</b><br>%{x}: %{y:.4~g}",
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _distance(value: float, end: float | None) -> float | None:
    return None if end is None else round(abs(end - value), 4)
