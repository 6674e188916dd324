"""What all figures share: colours that colour-blind readers can tell apart, shapes beside them, panels, texts.

The colours are those of Okabe and Ito (2008). Nothing is told by colour alone: methods also have a marker and a dash.
Names that come from the data go through `label`, for plotly reads markup in texts.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#6B7280"
SEQUENTIAL = "Cividis"
"""Colour scale of maps: it grows in lightness, so it reads in grey and for every kind of colour blindness."""

_GRID, _INK = "#E5E7EB", "#1F2937"
_LONGEST_LABEL = 22
_BOTTOM = 50  # pixels below a figure, for its axis


class Mark(NamedTuple):
    """How a series is drawn."""

    colour: str
    symbol: str
    dash: str


_MARKS = (
    Mark(BLUE, "circle", "solid"),
    Mark(VERMILION, "square", "dash"),
    Mark(GREEN, "diamond", "dot"),
    Mark(PURPLE, "triangle-up", "dashdot"),
    Mark(ORANGE, "cross", "longdash"),
    Mark(SKY, "triangle-down", "longdashdot"),
    Mark(BLACK, "x", "solid"),
    Mark(GREY, "star", "dash"),
)
_OF_METHOD = {"seekr": _MARKS[0], "replay": _MARKS[1], "derpp": _MARKS[2], "joint": _MARKS[6], "seqft": _MARKS[7]}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", "size": 13, "color": _INK},
        "colorway": [mark.colour for mark in _MARKS],
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
        "xaxis": {"gridcolor": _GRID, "linecolor": _INK, "ticks": "outside", "automargin": True, "zeroline": False},
        "yaxis": {"gridcolor": _GRID, "linecolor": _INK, "ticks": "outside", "automargin": True, "zeroline": False},
    }
)


LEGEND_ON_TOP = {"y": 1.0, "yref": "container", "yanchor": "top"}
"""Of a figure with panels, whose titles stand where a legend would."""


def mark_of_method(method: str) -> Mark:
    """The mark of a method, the same in every figure."""
    return _OF_METHOD.get(method, _MARKS[3])


def mark(index: int) -> Mark:
    """The mark of the series with this number; from the ninth on, they repeat."""
    return _MARKS[index % len(_MARKS)]


def label(text: object) -> str:
    """A text of the data as plotly shows it, letter for letter."""
    return html.escape(str(text), quote=False)


def short_label(text: object) -> str:
    """A `label` that leaves room for others: the middle of a long text is left out."""
    plain = str(text)
    if len(plain) > _LONGEST_LABEL:
        half = (_LONGEST_LABEL - 1) // 2
        plain = f"{plain[:half]}…{plain[-half:]}"
    return label(plain)


def figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure, `height` pixels high."""
    return go.Figure(layout={"template": TEMPLATE, "height": height, **layout})


def panels(
    titles: Sequence[str],
    columns: int,
    panel_height: int,
    narrow_columns: int = 1,
    gap: int = 70,
    top: int = 40,
    narrow_top: int | None = None,
) -> go.Figure:
    """A grid of empty panels, one for each title, row by row.

    `layout.meta["narrow"]` holds what differs on a narrow screen, where there are `narrow_columns` panels in a row:
    keys are paths within the layout.

    Args:
        titles: of the panels, as plotly texts.
        columns: panels in a row.
        panel_height: of each row in pixels.
        narrow_columns: panels in a row of a narrow screen.
        gap: between rows in pixels, for the texts of axes and the title below.
        top: room above the panels in pixels, for their titles and a legend.
        narrow_top: the same on a narrow screen, where a legend has more lines; None: the same.
    """
    made = _grid(titles, min(columns, len(titles)), panel_height, gap, top)
    narrow_columns, narrow_top = min(narrow_columns, len(titles)), narrow_top or top
    made.layout.meta = {"narrow": _positions(len(titles), narrow_columns, panel_height, gap, narrow_top)}
    return made


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis for some positive values, with ticks at 1, 2 and 5 times the powers of ten.

    Within half a decade, where these are too few, the ticks are plotly's; over two decades, they are the powers alone.
    """
    if not values or max(values) < 5 * min(values):
        return {"type": "log"}
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [factor * 10.0**decade for decade in decades for factor in ((1, 2, 5) if len(decades) < 4 else (1,))]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:.10g}" for tick in ticks]}


def panel_position(index: int, columns: int) -> dict[str, int]:
    """Row and column of a panel, as plotly's `add_trace` takes them."""
    return {"row": index // columns + 1, "col": index % columns + 1}


def _grid(titles: Sequence[str], columns: int, panel_height: int, gap: int, top: int) -> go.Figure:
    rows = -(-len(titles) // columns)
    inside = rows * panel_height + (rows - 1) * gap
    made = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=list(titles),
        specs=[[{} if row * columns + col < len(titles) else None for col in range(columns)] for row in range(rows)],
        vertical_spacing=gap / inside,
        horizontal_spacing=min(0.9 / max(1, columns - 1), 0.06),
    )
    made.update_layout(template=TEMPLATE, height=inside + top + _BOTTOM, margin={"t": top, "b": _BOTTOM})
    made.update_annotations(font_size=12)
    return made


@cache
def _positions(count: int, columns: int, panel_height: int, gap: int, top: int) -> Mapping[str, Any]:
    """Where the parts of a grid lie, by their paths in the layout."""
    layout = _grid(["title"] * count, columns, panel_height, gap, top).to_plotly_json()["layout"]
    axes = [name for name in layout if name.startswith(("xaxis", "yaxis"))]
    places = {f"{name}.domain": list(layout[name]["domain"]) for name in axes}
    titles = {
        f"annotations[{index}].{side}": title[side]
        for index, title in enumerate(layout["annotations"])
        for side in ("x", "y")
    }
    return {"height": layout["height"], "margin.t": top, **places, **titles}
