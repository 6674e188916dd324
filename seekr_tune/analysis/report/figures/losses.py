"""What was minimised: the losses of one run, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from seekr_tune.analysis.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    LEGEND_ON_TOP,
    PURPLE,
    VERMILION,
    label,
    log_axis,
    panels,
    short_label,
)

MOST_POINTS = 300
"""Points of a curve; where a run has more steps, each point is the mean of as many neighbours as need be."""

_STYLES = ((VERMILION, "solid"), (GREEN, "dash"), (PURPLE, "dot"), (BLUE, "longdash"), (GREY, "dashdot"))
"""Colour and dash of the terms, in the order in which a step has them."""

_Y_AXES = {1: "y", 2: "y2"}


def losses_figure(steps: pa.Table, tasks: Sequence[str]) -> go.Figure:
    """The minimised loss by the kind of step, and its terms, unweighted: in replay steps, where those have them.

    Args:
        steps: the rows of one run in the `steps` table.
        tasks: in learning order.
    """
    steps = steps.sort_by([("task_index", "ascending"), ("step", "ascending")])
    made = panels(["minimised loss", "terms, unweighted"], 2, 280, gap=90, top=70, narrow_top=150)
    kinds = np.array(steps.column("kind").to_pylist())
    terms = [dict(row or ()) for row in steps.column("terms").to_pylist()]
    names = dict.fromkeys(name for row in terms for name in row)
    loss = steps.column("loss").to_numpy(zero_copy_only=False)
    curves = [
        ("new steps", np.where(kinds == "new", loss, np.nan), 1, BLUE, "solid"),
        ("replay steps", np.where(kinds == "replay", loss, np.nan), 1, VERMILION, "dash"),
    ]
    for name, (colour, dash) in zip(names, cycle(_STYLES), strict=False):
        values = np.array([row.get(name, np.nan) for row in terms])
        in_replay = np.where(kinds == "replay", values, np.nan)
        curves.append((label(name), values if np.isnan(in_replay).all() else in_replay, 2, colour, dash))
    for name, values, panel, colour, dash in curves:
        at = np.flatnonzero(values > 0)  # the axis is logarithmic; nan compares false
        if len(at):
            made.add_scatter(
                x=np.round(_thinned(at.astype(np.float64) + 1)),
                y=_significant(_thinned(values[at])),
                mode="lines",
                name=name,
                line={"color": colour, "dash": dash, "width": 1.6},
                hovertemplate="step %{x}: %{y:.3g}",
                row=1,
                col=panel,
            )
    for panel in (1, 2):
        drawn = [value for trace in made.data if trace.yaxis == _Y_AXES[panel] for value in trace.y]
        made.update_yaxes(log_axis(drawn), row=1, col=panel)
    _add_tasks(made, pc.value_counts(steps.column("task_index")).to_pylist(), tasks)
    made.update_xaxes(title_text="training step")
    return made.update_layout(showlegend=True, legend=LEGEND_ON_TOP)


def _add_tasks(made: go.Figure, counts: Sequence[dict[str, int]], tasks: Sequence[str]) -> None:
    """A line in each panel where each task ends; all in one update, for plotly checks a figure at every one."""
    lines = []
    end = 0
    for count in sorted(counts, key=lambda count: count["values"])[:-1]:
        end += count["counts"]
        name = short_label(tasks[count["values"]])
        line = {"type": "line", "x0": end, "x1": end, "y0": 0, "y1": 1, "name": f"end of {name}"}
        style = {"color": GREY, "width": 1, "dash": "dot"}
        lines += [{**line, "xref": f"x{panel}", "yref": f"y{panel} domain", "line": style} for panel in ("", "2")]
    made.update_layout(shapes=lines)


def _thinned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most `MOST_POINTS` values: means of equal groups of neighbours."""
    group = -(-len(values) // MOST_POINTS)
    starts = np.arange(0, len(values), group)
    return np.asarray(np.add.reduceat(values, starts) / np.diff([*starts, len(values)]))


def _significant(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
