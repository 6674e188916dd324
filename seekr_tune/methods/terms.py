"""Loss terms by name: what the loss of a step is the weighted sum of.

A term has one name, from the pass that computes it to the plot that shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

CROSS_ENTROPY = "cross_entropy"
LOGIT_DISTILLATION = "logit_distillation"
ATTENTION_DISTILLATION = "attention_distillation"

LOSS_TERMS = (CROSS_ENTROPY, LOGIT_DISTILLATION, ATTENTION_DISTILLATION)
"""In the order in which a step computes and adds them."""


_SMALLEST = 1e-6
"""A term whose gradient is smaller than this part of the others' is taken to have this much: what is measured of a
student that still is its teacher is rounding noise."""


@dataclass(frozen=True)
class Term:
    """One term of one micro-batch.

    Attributes:
        value: a scalar with graph, before its weight; a part of a sum over the global batch, or a mean over the
            micro-batch.
        weight: what it is multiplied by in the loss.
    """

    value: Tensor
    weight: float


def weighted_sum(terms: Mapping[str, Term]) -> Tensor:
    """The loss that terms make up, with graph."""
    first, *others = terms.values()
    loss = first.weight * first.value
    for term in others:
        loss = loss + term.weight * term.value
    return loss


def values_of(terms: Mapping[str, Term], names: tuple[str, ...]) -> Tensor:
    """Values without graph, `[names]`; 0 where a micro-batch lacks a term."""
    zero = torch.zeros_like(next(iter(terms.values())).value)
    return torch.stack([terms[name].value if name in terms else zero for name in names]).detach()


def alone(weights: Mapping[str, float], name: str) -> dict[str, float]:
    """The weights with which one term is left alone."""
    return {other: weight if other == name else 0.0 for other, weight in weights.items()}


def shares_of(norms: Mapping[str, float]) -> dict[str, float]:
    """Shares from the norms of the parts; empty where they have no finite sum above 0."""
    total = sum(norms.values())
    if not math.isfinite(total) or total <= 0:
        return {}
    return {term: norm / total for term, norm in norms.items()}


def weight_of_share(share: float, norms: Mapping[str, float], term: str, before: float) -> float:
    """The weight with which a term has a share of the gradient.

    Args:
        share: above 0 and below 1.
        norms: of the parts, that of the term at weight 1.
        term: its name.
        before: the weight so far; it stays where nothing can be measured.
    """
    own = norms[term]
    others = sum(norms.values()) - own
    if not math.isfinite(others) or not math.isfinite(own) or own <= 0 or others <= 0:
        return before
    return share / (1 - share) * others / max(own, _SMALLEST * others)
