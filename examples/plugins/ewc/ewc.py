"""EWC: weights that mattered to earlier tasks are pulled back to where they were. Source: Kirkpatrick et al. 2017."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor

from seekr_tune.methods import Method, MethodState, Needs, ReplaySample, Section, Setting, TaskView


class Options(Section):
    """Settings at `method.ewc`."""

    strength: float = Field(1000.0, ge=0.0)
    """Factor of the penalty (lambda); 0 is plain fine-tuning."""
    samples: int | None = Field(None, ge=1)
    """Training samples of a task whose gradients make up its Fisher information; null: all."""


class EWC(Method):
    """strength / 2 * sum over weights of F (w - w_old)^2, F the diagonal Fisher information summed over tasks.

    F is the mean over training samples of the squared gradient of each, at its own answer. One penalty stands for all
    old tasks, around the weights that the last one ended with (Huszar, 2018).
    """

    Options = Options
    needs = Needs(weight_copies=2)
    mends = {"ewc": "lower recipe.learning_rate or method.ewc.strength"}

    def __init__(self, options: Options, setting: Setting) -> None:
        super().__init__(options, setting)
        self.fisher: dict[str, Tensor] = {}
        self.old: dict[str, Tensor] = {}

    def after_task(self, task: TaskView) -> Sequence[ReplaySample]:
        if self.options.strength > 0:
            own = task.mean_over_samples(torch.square, self.options.samples)
            self.fisher = {name: own[name] + self.fisher.get(name, 0.0) for name in own}
            self.old = {name: weight.clone() for name, weight in task.weights().items()}
        return task.stored

    def penalties(self, weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, float]]:
        if not self.fisher:
            return {}
        moved = [(self.fisher[name] * (weight - self.old[name]).square()).sum() for name, weight in weights.items()]
        return {"ewc": (torch.stack(moved).sum(), self.options.strength / 2)}

    def state(self) -> MethodState:
        return MethodState({"fisher": self.fisher, "old": self.old} if self.fisher else {})

    def restore(self, state: MethodState) -> None:
        self.fisher, self.old = (dict(state.weights.get(name, {})) for name in ("fisher", "old"))
