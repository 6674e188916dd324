"""Numbers and names as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seekr_tune.analysis.table import NOTHING
from seekr_tune.config.facts import short_name
from seekr_tune.config.meaning import setting_text

PER_CENT = "\N{NO-BREAK SPACE}%"


def count(value: float | None) -> str:
    """A count, or the mean of several."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:,.1f}"


def percent(value: float) -> str:
    """A score."""
    return f"{value:.1f}{PER_CENT}"


def share(value: float) -> str:
    """A share of one, in percent."""
    return f"{100 * value:.0f}{PER_CENT}"


def short_path(path: str) -> str:
    """The last word of a config path or the name of a column; `method.name` is the method."""
    if path == "method.name":
        return "method"
    return short_name(path).replace("distinct_replayed_samples", "samples")


def plural(value: int, one: str, many: str | None = None) -> str:
    """`1 trial`, `2 trials`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def settings(params: Mapping[str, Any]) -> str:
    """Searched settings on one line, but for the method."""
    return ", ".join(
        f"{short_path(path)} {setting_text(path, value)}" for path, value in params.items() if path != "method.name"
    )
