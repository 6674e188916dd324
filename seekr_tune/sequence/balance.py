"""How much of the replay gradient each loss term has, and the weight that gives attention distillation a share of it.

The gradient of a replay step is a sum, g = w_ce g_ce + w_logit g_logit + w_attention g_attention. The share of a term
is the norm of its part by the sum of the norms of all parts. Clipping and AdamW take the length out of g, so what a
weight amounts to is its share: where one term has nearly all, a larger weight changes nothing any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from seekr_tune.sequence.schedule import Step
from seekr_tune.sequence.state import GradientShares, StepRecord
from seekr_tune.sequence.workers import Workers

_SMALLEST = 1e-6
"""Attention whose gradient is smaller than this part of the others' is taken to have this much: what is measured of a
student that still is its teacher is rounding noise."""


@dataclass(frozen=True)
class TermWeights:
    """What the terms of a replay loss are multiplied by; 0 where a term is not distilled."""

    cross_entropy: float
    logits: float
    attention: float

    def alone(self) -> dict[str, TermWeights]:
        """By term, as `GradientShares` names them, the weights with which it is left alone."""
        return {
            "cross_entropy": TermWeights(self.cross_entropy, 0.0, 0.0),
            "logit_distillation": TermWeights(0.0, self.logits, 0.0),
            "attention_distillation": TermWeights(0.0, 0.0, self.attention),
        }


def measured_steps(steps: Sequence[Step], every: int | None, *, calibrates: bool) -> frozenset[int]:
    """The replay steps of a stage at which the terms are measured, by their number in the stage.

    They are the middles of equal parts of the stage, of at most `every` replay steps each; where the measurement also
    finds a weight, besides them the 1st, 2nd, 4th, 8th, ... replay step: as a task begins, the student still is its
    teacher, and the gradient of attention grows from nothing.

    Args:
        steps: all steps of the stage.
        every: most replay steps of a part; None measures for the weight alone.
        calibrates: whether it finds a weight.
    """
    replayed = [number for number, step in enumerate(steps) if step.kind == "replay"]
    chosen: set[int] = set()
    if every is not None and replayed:
        parts = -(-len(replayed) // every)
        chosen |= {replayed[(2 * part + 1) * len(replayed) // (2 * parts)] for part in range(parts)}
    if calibrates:
        chosen |= {replayed[2**power - 1] for power in range(len(replayed).bit_length())}
    return frozenset(chosen)


def shares_of(norms: Mapping[str, float]) -> GradientShares | None:
    """Shares from the norms of the parts; None where they have no finite sum above 0."""
    total = sum(norms.values())
    if not math.isfinite(total) or total <= 0:
        return None
    return GradientShares(**{term: norm / total for term, norm in norms.items()})


def weight_of_share(share: float, norms: Mapping[str, float], before: float) -> float:
    """The weight of attention distillation with which it has a share of the gradient.

    Args:
        share: above 0 and below 1.
        norms: of the parts, that of attention at weight 1.
        before: the weight so far; it stays where nothing can be measured.
    """
    attention = norms["attention_distillation"]
    others = sum(norms.values()) - attention
    if not math.isfinite(others) or not math.isfinite(attention) or attention <= 0 or others <= 0:
        return before
    return share / (1 - share) * others / max(attention, _SMALLEST * others)


def term_norms(
    parameters: Mapping[str, nn.Parameter],
    weights: TermWeights,
    backward: Callable[[TermWeights], None],
    workers: Workers,
) -> dict[str, float]:
    """Norm of each term's part of the gradient, over all workers; the gradients that wait are as they were behind it.

    Args:
        parameters: trained parameters by name.
        weights: of the terms; those at 0 are left out.
        backward: adds the gradient of a replay step with these weights, unreduced where each rank has all parameters.
        workers: the processes that share the step; all of them call this.
    """
    waiting = {name: parameter.grad for name, parameter in parameters.items()}
    norms: dict[str, float] = {}
    for term, alone in weights.alone().items():
        if getattr(weights, _FIELDS[term]) > 0:
            _forget(parameters.values())
            backward(alone)
            norms[term] = _norm(parameters.values(), workers)
    for name, parameter in parameters.items():
        parameter.grad = waiting[name]
    return workers.broadcast(lambda: norms)


_FIELDS = {"cross_entropy": "cross_entropy", "logit_distillation": "logits", "attention_distillation": "attention"}


def _forget(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _norm(parameters: Iterable[nn.Parameter], workers: Workers) -> float:
    """Of the mean of the gradients over ranks; sharded ones are means already."""
    whole = torch.zeros((), dtype=torch.float64)
    parts = torch.zeros((), dtype=torch.float64)
    for parameter in parameters:
        gradient = parameter.grad
        if isinstance(gradient, DTensor):
            parts += _square(gradient.to_local())
        elif gradient is not None:
            whole += _square(workers.sum(gradient) / workers.world_size if workers.world_size > 1 else gradient)
    if workers.world_size > 1:
        parts = workers.sum(parts.to(workers.device)).cpu()
    return math.sqrt(float(whole + parts))


def _square(gradient: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(gradient.detach(), dtype=torch.float32)
    return norm.double().square().cpu()


def mean_shares(steps: Sequence[StepRecord]) -> GradientShares | None:
    """Mean of what was measured in the steps of a stage; None where nothing was."""
    found = [step.shares for step in steps if step.shares is not None]
    if not found:
        return None
    return GradientShares(
        *(
            None if None in own else fmean(value for value in own if value is not None)
            for own in (
                [shares.cross_entropy for shares in found],
                [shares.logit_distillation for shares in found],
                [shares.attention_distillation for shares in found],
            )
        )
    )
