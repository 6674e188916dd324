"""How much of the replay gradient each loss term has, and the weight that gives a term a share of it.

The gradient of a replay step is a sum, g = w_ce g_ce + w_logit g_logit + w_attention g_attention. The share of a term
is the norm of its part by the sum of the norms of all parts. Clipping and AdamW take the length out of g, so what a
weight amounts to is its share: where one term has nearly all, a larger weight changes nothing any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.loop.schedule import Step
from seekr_tune.methods.terms import alone
from seekr_tune.methods.workers import Workers


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


def term_norms(
    parameters: Mapping[str, nn.Parameter],
    weights: Mapping[str, float],
    backward: Callable[[Mapping[str, float]], None],
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
    for term, weight in weights.items():
        if weight > 0:
            _forget(parameters.values())
            backward(alone(weights, term))
            norms[term] = _norm(parameters.values(), workers)
    for name, parameter in parameters.items():
        parameter.grad = waiting[name]
    return workers.broadcast(lambda: norms)


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


def mean_shares(steps: Sequence[StepRecord]) -> dict[str, float]:
    """Mean of what was measured in the steps of a stage, of terms that all of them have; empty where nothing was."""
    found = [step.shares for step in steps if step.shares]
    names = [name for name in found[0] if all(name in shares for shares in found)] if found else []
    return {name: fmean(shares[name] for shares in found) for name in names}
