"""What goes into the page beside its text: figures as data, scripts and styles. Nothing of it can end its element."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from seekr_tune.analysis.report.figures.style import TEMPLATE
from seekr_tune.documents import read_text

_ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Plot:
    """A figure of the page.

    Attributes:
        key: id of its element.
        title: heading, and name for screen readers.
        caption: how to read it.
        data: the figure as JSON, without the template, which the page holds once.
        height: in pixels, kept free until it is drawn.
        is_wide: whether it takes a row of the page for itself.
    """

    key: str
    title: str
    caption: str
    data: Markup
    height: int
    is_wide: bool


@dataclass(frozen=True)
class Panel:
    """What a reader can choose: figures of one run or configuration."""

    key: str
    label: str
    plots: tuple[Plot, ...]
    folded: tuple[Plot, ...] = ()
    """Shown when they are asked for."""


def plot(key: str, title: str, caption: str, figure: go.Figure) -> Plot:
    """A figure, ready to be embedded."""
    plain = figure.to_dict()
    plain["layout"].pop("template", None)
    meta = plain["layout"].get("meta") or {}
    data = script_json(pio.json.to_json_plotly(plain))
    return Plot(
        key=key,
        title=title,
        caption=caption,
        data=data,
        height=int(plain["layout"]["height"]),
        is_wide=bool(meta.get("wide")),
    )


def template_json() -> Markup:
    """What all figures share."""
    return script_json(json.dumps(TEMPLATE.to_plotly_json()))


def script_json(text: str) -> Markup:
    """JSON that may stand in a <script> element: no text in it can end the element or begin a comment."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def asset(name: str) -> Markup:
    """A script or a style of this package."""
    return Markup(read_text(_ASSETS / name))


def plotly_script() -> Markup:
    """plotly.js as the plotly package brings it."""
    return Markup(get_plotlyjs())
