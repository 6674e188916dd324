"""Charts of what the benchmarks found: Plotly's figures, drawn as SVG by Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from benchmarks.results import Curve, Figure

_WIDTH, _PANEL, _ROW = 1000, 320, 22
_MARGIN = {"l": 60, "r": 20, "t": 40, "b": 60}
_STYLE = {"template": "plotly_white", "font": {"size": 12}}
_OURS, _GOAL = "#1f77b4", "#d62728"


def picture_of_goals(figures: Sequence[Figure]) -> go.Figure:
    """All ratios that have a goal: value, spread of single turns, and goal."""
    shown = [figure for figure in figures if figure.goal is not None and not figure.unit][::-1]
    names = [f"{figure.name} / {figure.against}" for figure in shown]
    values = [figure.value for figure in shown]
    ends = [figure.spread or (figure.value, figure.value) for figure in shown]
    spread = {
        "array": [high - value for value, (_, high) in zip(values, ends, strict=True)],
        "arrayminus": [value - low for value, (low, _) in zip(values, ends, strict=True)],
    }
    goals = ["at least" if figure.at_least else "at most" for figure in shown]
    arrows = ["triangle-right" if figure.at_least else "triangle-left" for figure in shown]
    picture = go.Figure(
        [
            go.Scatter(x=values, y=names, error_x=spread, mode="markers", marker_color=_OURS, name="measured"),
            go.Scatter(
                x=[figure.goal for figure in shown],
                y=names,
                mode="markers",
                marker={"symbol": arrows, "size": 11, "color": _GOAL},
                text=goals,
                name="goal: at least (right), at most (left)",
            ),
        ]
    )
    legend = {"orientation": "h", "y": 1, "yanchor": "bottom"}
    height = 120 + _ROW * len(shown)
    return picture.update_layout(width=_WIDTH, height=height, margin=_MARGIN, legend=legend, **_STYLE).update_yaxes(
        automargin=True
    )


def picture_of_chart(curves: Sequence[Curve]) -> go.Figure:
    """The curves of one chart: a panel for each x axis, with logarithmic sizes."""
    axes = list(dict.fromkeys(curve.x for curve in curves))
    picture = make_subplots(rows=1, cols=len(axes), shared_yaxes=len(axes) > 1)
    for curve in curves:
        xs, ys = zip(*curve.points, strict=True)
        column = axes.index(curve.x) + 1
        picture.add_trace(go.Scatter(x=xs, y=ys, mode="lines+markers", name=curve.name), row=1, col=column)
    for column, x in enumerate(axes, start=1):
        ticks = sorted({point[0] for curve in curves if curve.x == x for point in curve.points})
        picture.update_xaxes(title_text=x, type="log", tickvals=ticks, ticktext=[f"{t:g}" for t in ticks], col=column)
    every = [y for curve in curves for _, y in curve.points]
    scale = "log" if min(every) > 0 and max(every) > 20 * min(every) else "linear"
    picture.update_yaxes(type=scale).update_yaxes(title_text=curves[0].y, col=1)
    is_named = len(axes) < len(curves)
    return picture.update_layout(width=_WIDTH, height=_PANEL, margin=_MARGIN, showlegend=is_named, **_STYLE)


def write_pictures(pictures: Mapping[str, go.Figure], directory: Path) -> None:
    """Draw each as `<name>.svg`; where Chromium or playwright is missing, say so and leave those that are there."""
    chromium = shutil.which("chromium")
    if chromium is None or find_spec("playwright") is None:
        print("pictures not drawn: no chromium or no playwright; `make test-browser` installs them")
        return
    from playwright.sync_api import sync_playwright

    directory.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_content("<html></html>")
        page.add_script_tag(content=get_plotlyjs())
        for name, picture in pictures.items():
            address: str = page.evaluate(_DRAW, picture.to_json())
            (directory / f"{name}.svg").write_text(unquote(address.partition(",")[2]), encoding="utf-8")
        browser.close()


_DRAW = """text => {
  const figure = JSON.parse(text);
  const size = {format: 'svg', width: figure.layout.width, height: figure.layout.height};
  return Plotly.toImage(figure, size);
}"""
