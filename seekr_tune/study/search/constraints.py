"""Constraints of a search space: comparisons of what a configuration means, such as `heads >= layers`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from seekr_tune.config.facts import former_paths
from seekr_tune.config.messages import hint
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import config_paths

QUANTITIES = ("heads", "layers", "stored_samples", "distinct_replayed_samples")
"""What budgets become for a model and its data: heads distilled, layers that may hold some, samples kept in total, and
how many of them will be replayed."""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_COMPARISON = re.compile(r"^\s*(\S+?)\s*(>=|<=|>|<)\s*(\S+)\s*$")


@dataclass(frozen=True)
class Constraint:
    """`left comparison right`, each side a quantity, a config path or a number."""

    left: str
    comparison: str
    right: str

    def __str__(self) -> str:
        return f"{self.left} {self.comparison} {self.right}"

    def admits(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds; it does where a side has no number, such as the heads of a method that has none.

        Args:
            values: of quantities and config paths.
        """
        left, right = (_number(side, values) for side in (self.left, self.right))
        return left is None or right is None or _OPERATORS[self.comparison](left, right)


def parse_constraint(text: Any, origin: str) -> Constraint:
    """Read one line of `constraints`.

    Raises:
        ConfigError: it is no comparison, or a side is unknown.
    """
    match = _COMPARISON.match(text) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(f"{origin}: constraints: {text!r} must read like 'heads >= layers' (>=, <=, > or <)")
    left, comparison, right = match.groups()
    known = (*QUANTITIES, *config_paths(), *former_paths())
    for side in (left, right):
        if _literal(side) is None and side not in known:
            there = hint(side, known, f"use {', '.join(QUANTITIES)}, a config path or a number")
            raise ConfigError(f"{origin}: constraints: {text!r}: unknown {side!r}; {there}")
    return Constraint(left, comparison, right)


def _number(side: str, values: Mapping[str, Any]) -> float | None:
    literal = _literal(side)
    value = values.get(side) if literal is None else literal
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _literal(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number
