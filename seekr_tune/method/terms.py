"""Loss terms by name: what the loss of a step is the weighted sum of.

A term has one name, from the pass that computes it to the plot that shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

CROSS_ENTROPY = "cross_entropy"
LOGIT_DISTILLATION = "logit_distillation"
ATTENTION_DISTILLATION = "attention_distillation"

LOSS_TERMS = (CROSS_ENTROPY, LOGIT_DISTILLATION, ATTENTION_DISTILLATION)
"""In the order in which a step computes and adds them."""


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
