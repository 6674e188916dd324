"""Which loss term the replay gradient comes from, and where one of them has nearly all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import pyarrow as pa

from seekr_tune.analysis.configurations import TrialRow, grouped

DOMINANT = 0.95
"""A term with a larger share leaves the others no say: clipping and AdamW make runs of larger weights alike."""

RUN_COLUMNS = ("trial", "role", "configuration", "replicate")
"""Of the `trials` table, what `dominated` reads."""

_TERMS = {
    # term: what it is called, what to do about it
    "cross_entropy": ("cross-entropy", "raise method.seekr.logit_weight or method.seekr.attention_weight"),
    "logit_distillation": ("logit distillation", "lower method.seekr.logit_weight"),
    "attention_distillation": (
        "attention distillation",
        "lower method.seekr.attention_weight (a larger one changes nothing), or give method.seekr.attention_share",
    ),
}


def dominant(shares: Mapping[str, Any]) -> tuple[str, float] | None:
    """The term that has more than `DOMINANT` of the gradient, and its share; None where none has, or there is but one.

    Args:
        shares: `<term>_share` by name; null where a term is off or nothing was measured.
    """
    known = {term: shares[f"{term}_share"] for term in _TERMS if shares[f"{term}_share"] is not None}
    if len(known) < 2:
        return None
    term = max(known, key=lambda one: known[one])
    return (term, known[term]) if known[term] > DOMINANT else None


def told(term: str, share: float, most: float | None = None) -> str:
    """One line about a term that has nearly all of the gradient, with one share of it, or the least and the most."""
    name, mend = _TERMS[term]
    several = "" if most is None or most == share else f" to {100 * most:.1f}"
    return f"{name} has {100 * share:.1f}{several} % of the replay gradient; {mend}"


def dominated(runs: Sequence[TrialRow], replay: pa.Table) -> Iterator[str]:
    """By term that has nearly all of the gradient: in how many configurations, and in which the most.

    Args:
        runs: rows of the `trials` table, with `RUN_COLUMNS`.
        replay: the `replay` table.
    """
    measured: dict[str, list[Mapping[str, Any]]] = {}
    for row in replay.to_pylist():
        if row["cross_entropy_share"] is not None or row["attention_distillation_share"] is not None:
            measured.setdefault(row["trial"], []).append(row)
    groups = {
        key: rows
        for (_, key), own in grouped(runs).items()
        if (rows := [row for run in own for row in measured.get(run["trial"], ())])
    }
    found: dict[str, dict[str, float]] = {}
    for key, rows in groups.items():
        means = {f"{term}_share": _mean([row[f"{term}_share"] for row in rows]) for term in _TERMS}
        worst = dominant(means)
        if worst is not None:
            found.setdefault(worst[0], {})[key] = worst[1]
    for term, shares in found.items():
        key, count = max(shares, key=lambda one: shares[one]), f"{len(shares)} of the study's {len(groups)}"
        line = told(term, min(shares.values()), shares[key])
        yield f"In {count} configurations {line} (most in {key}; docs/method.md)."


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
