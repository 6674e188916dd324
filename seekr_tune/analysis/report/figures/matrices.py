"""Scores of one run: its matrix, and how each task fares while others are learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from seekr_tune.analysis.report.figures.style import SEQUENTIAL, figure, label, mark, short_label
from seekr_tune.records import Scores

_MOST_CELLS_WITH_TEXT = 15
_UNTRAINED = "(before training)"


def matrix_figure(scores: Scores, tasks: Sequence[str], initial: Scores | None = None) -> go.Figure:
    """The score matrix as a heat map: a row for each task that was learned, a column for each that was scored.

    Args:
        scores: in percent, `[T, T]`: row = after learning that task, column = scored task; nan = not scored.
        tasks: T names in learning order.
        initial: scores before any training in percent, `[T]`; drawn as a first row where one of them is known.
    """
    rows, names = np.asarray(scores, dtype=np.float64), [*tasks]
    if initial is not None and not np.isnan(initial).all():
        rows, names = np.vstack([initial, rows]), [_UNTRAINED, *tasks]
    hover = [[[label(trained), label(scored)] for scored in tasks] for trained in names]
    made = figure(
        height=200 + 34 * len(names),
        xaxis={"title": "scored task", "tickvals": [*range(len(tasks))], "ticktext": [*map(short_label, tasks)]},
        yaxis={
            "title": {"text": "learned last", "standoff": 14},
            "tickvals": [*range(len(names))],
            "ticktext": [*map(short_label, names)],
            "autorange": "reversed",
        },
    )
    made.add_heatmap(
        z=np.round(rows, 2).astype(np.float32),
        zmin=0,
        zmax=100,
        colorscale=SEQUENTIAL,
        colorbar={"title": "%", "thickness": 12},
        customdata=hover,
        texttemplate="%{z:.0f}" if len(tasks) <= _MOST_CELLS_WITH_TEXT else None,
        hovertemplate="after %{customdata[0]}<br>on %{customdata[1]}: %{z:.1f} %<extra></extra>",
        hoverongaps=False,
        xgap=1,
        ygap=1,
    )
    return made.update_layout(xaxis_showgrid=False, yaxis_showgrid=False)


def forgetting_figure(scores: Scores, tasks: Sequence[str]) -> go.Figure:
    """A curve for each task: its score after the task was learned and after each later one that was scored.

    Args:
        scores: in percent, `[T, T]`, as for `matrix_figure`.
        tasks: T names in learning order.
    """
    made = figure(
        height=400,
        xaxis={"title": "tasks learned", "dtick": 1, "range": [0.7, len(tasks) + 0.3]},
        yaxis={"title": "score, %", "range": [-4, 104]},
    )
    for index, task in enumerate(tasks):
        own = np.round(scores[index:, index], 2)
        known = ~np.isnan(own)
        colour, symbol, dash = mark(index)
        made.add_scatter(
            x=np.arange(index + 1, len(tasks) + 1)[known],
            y=own[known],
            name=short_label(task),
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 8},
            hovertemplate="%{y:.1f} % after %{x} tasks",
        )
    return made.update_layout(hovermode="closest", showlegend=True, meta={"narrow": {"height": 440}})
