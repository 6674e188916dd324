"""Training that changes nothing: every update is smaller than what the precision of the weights can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.errors import TrainingError
from seekr_tune.loop.schedule import Stage
from seekr_tune.methods.workers import Workers


def weight_sums(parameters: Mapping[str, nn.Parameter]) -> Tensor:
    """One float64 sum for each parameter that lies on this rank: equal before and after a stage if nothing changed."""
    with torch.no_grad():
        here = [p.to_local() if isinstance(p, DTensor) else p for p in parameters.values()]
        return torch.stack([part.sum(dtype=torch.float64) for part in here])


def require_moved(
    before: Tensor, parameters: Mapping[str, nn.Parameter], steps: Sequence[StepRecord], stage: Stage, workers: Workers
) -> None:
    """Refuse a stage that left all weights as they were although it had updates: its scores would say nothing.

    Args:
        before: `weight_sums` when the stage began.
        parameters: trained parameters by name, as the stage leaves them.
        steps: the steps that were taken since.
        stage: which one, for the message.
        workers: the processes that share the weights; all of them call this.

    Raises:
        TrainingError: naming the stage and the precision.
    """
    updates = [step for step in steps if step.grad_norm and step.learning_rate > 0]
    if not updates or any(workers.gather(not torch.equal(before, weight_sums(parameters)))):
        return
    dtype = str(next(iter(parameters.values())).dtype).removeprefix("torch.")
    mend = "raise recipe.learning_rate"
    if dtype == "bfloat16":
        mend += ", or set model.dtype to float32 (and model.compute_dtype to bfloat16)"
    raise TrainingError(
        f"stage {stage.name!r}: {len(updates)} updates changed no weight, since a learning rate of "
        f"{updates[-1].learning_rate:g} is lost in {dtype}; {mend}"
    )
