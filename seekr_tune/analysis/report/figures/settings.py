"""What the searched settings do: all at once, one by one, and how much each of them matters."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from typing import Any

import plotly.graph_objects as go

from seekr_tune.analysis.configurations import TrialRow, is_point
from seekr_tune.analysis.hyperparameters import Importance
from seekr_tune.analysis.ranking_tables import searched_paths
from seekr_tune.analysis.report.figures.style import (
    BLUE,
    LEGEND_ON_TOP,
    SEQUENTIAL,
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

UNSET = "–"
"""Stands for a setting that the configuration's method does not have."""

_COLUMNS = 3
_NUM_TICKS = 5


def parallel_figure(rows: Sequence[TrialRow], objective: str, logarithmic: Collection[str] = ()) -> go.Figure | None:
    """One line a finished configuration through its settings, its samples and its objective, which is also its colour.

    Args:
        rows: of a ranking.
        objective: a numeric column.
        logarithmic: paths that are drawn on a logarithmic axis.

    Returns:
        The figure; None where no configuration has a value, or nothing was searched.
    """
    points = [row for row in rows if is_point(row) and row[objective] is not None]
    paths = searched_paths(points)
    if not points or not paths:
        return None
    params = [parse_json(row["params"]) for row in points]
    axes = [_axis(path, [values.get(path) for values in params], path in logarithmic) for path in paths]
    ends = [column for column in ("distinct_replayed_samples", objective) if column not in paths]
    ends = [column for column in ends if any(row[column] is not None for row in points)]
    axes += [_axis(column, [row[column] for row in points], False) for column in dict.fromkeys(ends)]
    made = figure(440, margin={"l": 70, "r": 70, "t": 70, "b": 30})
    made.add_parcoords(
        dimensions=axes,
        line={
            "color": [row[objective] for row in points],
            "colorscale": f"{SEQUENTIAL}_r",  # a pale line would be lost on white
            "showscale": True,
            "colorbar": {"title": label(short_path(objective)), "thickness": 12},
        },
        labelfont={"size": 12},
        tickfont={"size": 11},
    )
    return made.update_layout(meta={"min_width": 100 * len(axes) + 160})


def slice_figure(rows: Sequence[TrialRow], objective: str, logarithmic: Collection[str] = ()) -> go.Figure | None:
    """The objective of every finished configuration over each searched setting; arguments as for `parallel_figure`."""
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
        customdata=[[one.n, "none" if one.effect is None else f"{one.effect:+.2f}"] for one in ordered],
        hovertemplate="%{y}: %{x:.2f}<br>n = %{customdata[0]}, rank correlation %{customdata[1]}<extra></extra>",
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


def _axis(name: str, values: Sequence[Any], logarithmic: bool) -> dict[str, Any]:
    """An axis of numbers or of categories; what is not set stands below the others."""
    known = [value for value in values if value is not None]
    if known and on_one_scale(name, known):
        scale = math.log10 if logarithmic and min(known) > 0 else float
        places = [None if value is None else scale(value) for value in values]
        low, high = min(map(scale, known)), max(map(scale, known))
        ticks = [low + (high - low) * step / (_NUM_TICKS - 1) for step in range(_NUM_TICKS)] if high > low else [low]
        texts = [f"{10**tick if scale is math.log10 else tick:.3g}" for tick in ticks]
    else:
        texts = sorted({_text(value) for value in known})
        places = [None if value is None else float(texts.index(_text(value))) for value in values]
        ticks = [float(index) for index in range(len(texts))]
        low, high = 0.0, float(max(1, len(texts) - 1))
    if len(known) < len(values):
        below = low - 0.2 * ((high - low) or 1.0)
        places = [below if place is None else place for place in places]
        ticks, texts, low = [below, *ticks], [UNSET, *texts], below
    return {
        "label": label(short_path(name)),
        "values": places,
        "range": [low, high if high > low else low + 1.0],
        "tickvals": ticks,
        "ticktext": [label(text) for text in texts],
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _distance(value: float, end: float | None) -> float | None:
    return None if end is None else round(abs(end - value), 4)
