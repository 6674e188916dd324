"""Values that Python holds for equal and that do not mean the same: 1 head, and 1.0 of all heads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from seekr_tune.config import Config
from seekr_tune.config.facts import former_paths
from seekr_tune.config.leaves import leaf_types


@cache
def counts_or_shares() -> frozenset[str]:
    """Paths of the fields that take a count (an int) or a share of all (a float)."""
    now = {path for path, types in leaf_types(Config) if {int, float} <= types}
    return frozenset(now | {former for former, fields in former_paths().items() if now & {*fields}})


def same_meaning(path: str, one: Any, other: Any) -> bool:
    """Whether two values of a field mean the same; true and 1, and a count and a share, never do."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_meaning(path, one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same_meaning(path, *pair) for pair in zip(one, other, strict=True))
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if path in counts_or_shares() and isinstance(one, int) != isinstance(other, int):
        return False
    return bool(one == other)


def is_among(path: str, value: Any, values: Iterable[Any]) -> bool:
    """Whether one of the values of a field means the same as `value`."""
    return any(same_meaning(path, value, other) for other in values)


def on_one_scale(path: str, values: Iterable[Any]) -> bool:
    """Whether values of a field are numbers that can be compared; counts and shares together cannot."""
    types = {type(value) for value in values}
    return types <= {int, float} and not (path in counts_or_shares() and len(types) > 1)


def number_text(path: str, value: int | float, form: str = "") -> str:
    """A number of a field as text; a share is told from a count by its point.

    Args:
        path: config path of the field.
        value: the number.
        form: format of a float, such as `.4g`; empty: all digits.
    """
    if isinstance(value, int):
        return str(value)
    text = f"{value:{form}}" if form else repr(value)
    return f"{text}.0" if path in counts_or_shares() and text.lstrip("-").isdigit() else text


def setting_text(path: str, value: Any) -> str:
    """A value of a field as tables show it: floats with four digits, texts bare, the rest as JSON; empty for none."""
    if isinstance(value, float):
        return number_text(path, value, ".4g")
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
