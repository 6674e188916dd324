"""What runs cost: where the time went, and what replay took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from seekr_tune.analysis.configurations import TrialRow
from seekr_tune.analysis.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    figure,
    label,
    panels,
)

_PARTS = (
    # part, name, colour, pattern
    ("new", "new steps", BLUE, ""),
    ("replay", "replay steps", SKY, "/"),
    ("distillation", "distillation in them", GREEN, "\\"),
    ("teacher", "teacher passes", ORANGE, "x"),
    ("evaluation", "evaluation", PURPLE, "-"),
    ("checkpoint", "checkpoints", VERMILION, "|"),
    ("rest", "loading, waiting, saving", GREY, "."),
)

_PATTERN = {"fgcolor": "white", "size": 6, "solidity": 0.3}

_RESOURCES = (
    # column, title, colour
    ("replay_tokens", "replayed tokens", BLUE),
    ("memory_bytes", "bytes of replay memory", GREEN),
    ("peak_memory_bytes", "peak memory, bytes", PURPLE),
)


def time_figure(seconds: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """A bar for each configuration, as long as its run took; beside it the seconds that the run was spared.

    Args:
        seconds: by configuration, in order: seconds by part as `spent.spent_seconds` gives them, `spared` among them.
    """
    names = [*seconds]
    made = figure(
        140 + 26 * len(names),
        barmode="stack",
        xaxis={"title": "seconds of a run"},
        yaxis={"type": "category", "categoryorder": "array", "categoryarray": names[::-1]},
        bargap=0.25,
    )
    for part, name, colour, pattern in _PARTS:
        made.add_bar(
            y=[label(configuration) for configuration in names],
            x=[round(parts[part], 2) for parts in seconds.values()],
            name=name,
            orientation="h",
            marker={"color": colour, "pattern": {**_PATTERN, "shape": pattern, "bgcolor": colour}},
            hovertemplate="%{y}: %{x:.1f} s",
        )
    spared = [f"+ {parts['spared']:.0f} s spared" if parts["spared"] >= 0.5 else "" for parts in seconds.values()]
    made.data[-1].update(text=spared, textposition="outside", cliponaxis=False)
    narrow = {"height": 240 + 26 * len(names), "margin.t": 150}
    return made.update_layout(legend_traceorder="normal", meta={"narrow": narrow})


def resources_figure(rows: Sequence[TrialRow]) -> go.Figure:
    """Tokens, bytes and peak memory of the configurations, in their order."""
    names = [label(row["trial"]) for row in rows]
    made = panels([title for _, title, _ in _RESOURCES], 3, 80 + 22 * len(rows))
    for panel, (column, _, colour) in enumerate(_RESOURCES, start=1):
        made.add_bar(
            y=names,
            x=[row[column] for row in rows],
            orientation="h",
            marker={"color": colour},
            hovertemplate="%{y}: %{x:.4s}<extra></extra>",
            row=1,
            col=panel,
        )
    made.update_xaxes(tickformat="~s", nticks=5)
    made.update_yaxes(type="category", categoryorder="array", categoryarray=names[::-1])
    return made.update_layout(showlegend=False)
