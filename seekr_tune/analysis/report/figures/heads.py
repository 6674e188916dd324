"""Attention heads over tasks: maps of what was measured, what was selected, and how the selections agree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from seekr_tune.analysis.report.figures.style import (
    BLACK,
    BLUE,
    SEQUENTIAL,
    figure,
    label,
    panel_position,
    panels,
    short_label,
)

HeadValues = NDArray[Any]
"""`[tasks, layers, heads]`: a number, or a flag, for each head after each task."""

_COLUMNS, _NARROW_COLUMNS = 4, 2
_NOT_SELECTED = "#F3F4F6"


def head_map_figure(values: HeadValues, tasks: Sequence[str], quantity: str) -> go.Figure:
    """A map of layers and heads for each task, all with one colour scale.

    Args:
        values: `[tasks, layers, heads]`; flags are drawn in two colours.
        tasks: their names.
        quantity: what the values are, such as `importance`.
    """
    if values.shape[0] != len(tasks):
        raise ValueError(f"values of {values.shape[0]} tasks, but {len(tasks)} names")
    layers, heads = values.shape[1:]
    height = max(90, min(240, 34 * layers))
    made = panels([short_label(task) for task in tasks], _COLUMNS, height, _NARROW_COLUMNS, gap=60)
    columns = min(_COLUMNS, len(tasks))
    for index, task in enumerate(tasks):
        made.add_heatmap(
            z=values[index].astype(np.uint8 if values.dtype == np.bool_ else np.float32),
            coloraxis="coloraxis",
            name=label(task),
            hovertemplate=f"layer %{{y}}, head %{{x}}<br>{quantity} %{{z:.3g}}<extra>%{{fullData.name}}</extra>",
            xgap=_gap(heads),
            ygap=_gap(layers),
            **panel_position(index, columns),
        )
    made.update_xaxes(showgrid=False, dtick=_tick(heads), tick0=0)
    made.update_yaxes(showgrid=False, dtick=_tick(layers), tick0=0, autorange="reversed")
    made.update_yaxes(title_text="layer", col=1)
    made.layout.meta["wide"] = len(tasks) > _COLUMNS
    return made.update_layout(coloraxis=_colours(values, quantity))


def overlap_figure(jaccard: NDArray[np.float64], tasks: Sequence[str]) -> go.Figure:
    """How far the heads selected for two tasks agree: heads in both / heads in either.

    Args:
        jaccard: `[tasks, tasks]`, from 0 to 1; nan where neither has any.
        tasks: their names.
    """
    names = [short_label(task) for task in tasks]
    axis = {"tickvals": [*range(len(tasks))], "ticktext": names, "showgrid": False}
    made = figure(height=200 + 34 * len(tasks), xaxis=axis, yaxis={**axis, "autorange": "reversed"})
    hover = [[[label(one), label(other)] for other in tasks] for one in tasks]
    return made.add_heatmap(
        z=np.round(jaccard, 3).astype(np.float32),
        zmin=0,
        zmax=1,
        colorscale=SEQUENTIAL,
        colorbar={"title": "Jaccard", "thickness": 12},
        customdata=hover,
        texttemplate="%{z:.2f}",
        hovertemplate="%{customdata[0]} and %{customdata[1]}: %{z:.2f}<extra></extra>",
        xgap=1,
        ygap=1,
    )


def drift_figure(running: NDArray[np.float64], own: NDArray[np.float64], tasks: Sequence[str]) -> go.Figure:
    """How well the order of the heads by importance lasts from one task to the next.

    Args:
        running: rank correlation of the running sum between each task and the next, `[tasks - 1]`.
        own: the same of what each task added to the sum.
        tasks: names, `[tasks]`.
    """
    made = figure(
        360,
        xaxis={"title": "from the task before to", "tickvals": [*range(1, len(tasks))]},
        yaxis={"title": "rank correlation", "range": [-1.05, 1.05]},
    )
    made.update_xaxes(ticktext=[short_label(task) for task in tasks[1:]], range=[0.5, len(tasks) - 0.5])
    for values, name, colour, symbol, dash in (
        (running, "running sum", BLUE, "circle", "solid"),
        (own, "each task by itself", BLACK, "square", "dash"),
    ):
        made.add_scatter(
            x=[*range(1, len(tasks))],
            text=[f"{label(one)} to {label(other)}" for one, other in pairwise(tasks)],
            y=[None if np.isnan(value) else round(float(value), 3) for value in values],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"symbol": symbol, "size": 8},
            hovertemplate="%{text}: %{y:.2f}",
        )
    return made.update_layout(showlegend=True)


def _colours(values: HeadValues, quantity: str) -> dict[str, Any]:
    bar = {"title": {"text": quantity, "side": "right"}, "thickness": 12}
    if values.dtype == np.bool_:
        ticks = {"tickvals": [0.25, 0.75], "ticktext": ["no", "yes"]}
        steps = [[0.0, _NOT_SELECTED], [0.5, _NOT_SELECTED], [0.5, BLUE], [1.0, BLUE]]
        return {"colorscale": steps, "cmin": 0, "cmax": 1, "colorbar": {**bar, **ticks}}
    return {"colorscale": SEQUENTIAL, "colorbar": bar}


def _gap(count: int) -> int:
    return 1 if count <= 16 else 0


def _tick(count: int) -> int:
    return max(1, count // 4)
