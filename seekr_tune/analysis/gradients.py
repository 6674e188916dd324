"""Which loss term the replay gradient comes from, and where one of them has nearly all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from seekr_tune.analysis.configurations import TrialRow, grouped

if TYPE_CHECKING:  # `status` needs no Arrow
    import pyarrow as pa

DOMINANT = 0.95
"""A term with a larger share leaves the others no say: clipping and AdamW make runs of larger weights alike."""

RUN_COLUMNS = ("trial", "role", "configuration", "replicate")
"""Of the `trials` table, what `dominated` reads."""


def dominant(shares: Mapping[str, float]) -> tuple[str, float] | None:
    """The term that has more than `DOMINANT` of the gradient, and its share; None where none has, or there is but one.

    Args:
        shares: by term; empty where nothing was measured.
    """
    if len(shares) < 2:
        return None
    term = max(shares, key=lambda one: shares[one])
    return (term, shares[term]) if shares[term] > DOMINANT else None


def told(term: str, share: float, most: float | None = None) -> str:
    """One line about a term that has nearly all of the gradient, with one share of it, or the least and the most."""
    several = "" if most is None or most == share else f" to {100 * most:.1f}"
    return (
        f"{term} has {100 * share:.1f}{several} % of the replay gradient: a larger weight of it changes nothing; "
        "lower it, or raise those of the other terms"
    )


def dominated(runs: Sequence[TrialRow], replay: pa.Table) -> Iterator[str]:
    """By term that has nearly all of the gradient: in how many configurations, and in which the most.

    Args:
        runs: rows of the `trials` table, with `RUN_COLUMNS`.
        replay: the `replay` table.
    """
    measured: dict[str, list[dict[str, float]]] = {}
    for trial, shares in zip(replay["trial"].to_pylist(), replay["shares"].to_pylist(), strict=True):
        if shares:
            measured.setdefault(trial, []).append(dict(shares))
    groups = {
        key: rows
        for (_, key), own in grouped(runs).items()
        if (rows := [row for run in own for row in measured.get(run["trial"], ())])
    }
    found: dict[str, dict[str, float]] = {}
    for key, rows in groups.items():
        terms = dict.fromkeys(term for row in rows for term in row)
        worst = dominant({term: fmean(row[term] for row in rows if term in row) for term in terms})
        if worst is not None:
            found.setdefault(worst[0], {})[key] = worst[1]
    for term, by_key in found.items():
        key, count = max(by_key, key=lambda one: by_key[one]), f"{len(by_key)} of the study's {len(groups)}"
        line = told(term, min(by_key.values()), by_key[key])
        yield f"In {count} configurations {line} (most in {key}; docs/method.md)."
