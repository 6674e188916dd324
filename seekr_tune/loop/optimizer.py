"""The optimizer of a run: AdamW, or a class of PyTorch's or of a user's own; and its state, of whatever shape.

A class is called with the trained parameters, `lr` and `recipe.optimizer_options`, as those of `torch.optim` are. What
it keeps of a parameter is saved entry by entry, tensors as tensors and numbers as numbers; of its groups, what is no
longer as it was made. Before a run begins it takes one step on a small weight, which shows what it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.plugins import imported

_PLAIN = (bool, int, float, str, type(None))
"""What an entry may be besides a tensor."""
_OWN = ("params", "lr", "initial_lr")
"""Of a group: not state, but parameters and what the schedule sets."""


@dataclass(frozen=True)
class Kept:
    """What an optimizer keeps of a parameter.

    Attributes:
        copies: tensors of the parameter's own shape.
        by_element: whether the rest are single numbers, so that it can be divided among workers as the parameter is.
    """

    copies: int
    by_element: bool


def new_optimizer(config: Config, parameters: Iterable[nn.Parameter], *, fused: bool) -> Optimizer:
    """The optimizer of an experiment, as it begins.

    Args:
        config: its recipe.
        parameters: trained by it.
        fused: AdamW in one kernel, on a GPU.

    Raises:
        ConfigError: a class of the user's own cannot be imported or made.
    """
    recipe = config.recipe
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=fused
        )
    plugin = config.plugins[recipe.optimizer]
    found = imported("optimizer", recipe.optimizer, plugin)
    options = {"lr": recipe.learning_rate, **recipe.optimizer_options}
    made = _called(config, f"cannot be made with {options}", lambda: found(list(parameters), **options))
    if not isinstance(made, Optimizer):
        raise ConfigError(f"optimizer {recipe.optimizer} ({plugin.origin}): makes no torch.optim.Optimizer; mend it")
    return made


def require_optimizer(config: Config) -> Kept:
    """Refuse an optimizer that cannot be made, stepped or saved, or not with the workers of an experiment.

    Raises:
        ConfigError: saying why.
    """
    if config.recipe.optimizer == "adamw":
        return Kept(copies=2, by_element=True)
    weight = nn.Parameter(torch.zeros(3, 2))
    made = new_optimizer(config, [weight], fused=False)
    weight.grad = torch.ones_like(weight)
    _called(config, "a step fails that is taken without a closure or a switch to training", made.step)
    tensors, facts = state_of(made, new_optimizer(config, [weight], fused=False), {"weight": weight})
    held = {**facts["numbers"], **{key: value for group in facts["groups"] for key, value in group.items()}}
    name = f"optimizer {config.recipe.optimizer} ({config.plugins[config.recipe.optimizer].origin})"
    for key, value in held.items():
        if not isinstance(value, _PLAIN):
            said = f"{key.partition('/')[0]!r} is a {type(value).__name__}"
            raise ConfigError(f"{name}: of its state {said}, which is not saved; keep tensors, numbers and texts")
    shapes = [value.shape for value in tensors.values()]
    kept = Kept(shapes.count(weight.shape), all(shape in (weight.shape, ()) for shape in shapes))
    if config.training.parallelism == "fsdp" and not kept.by_element:
        raise ConfigError(
            f"{name}: keeps tensors of another shape than its parameters, which fsdp cannot divide among workers; "
            "set training.strategy to ddp"
        )
    return kept


def state_of(
    optimizer: Optimizer, fresh: Optimizer, parameters: Mapping[str, nn.Parameter]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that an optimizer knows: tensors by `<entry>/<parameter>`, and what JSON can hold.

    Args:
        optimizer: in use.
        fresh: the same as it begins.
        parameters: trained parameters by name.
    """
    entries = {
        f"{entry}/{name}": value
        for name, parameter in parameters.items()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }
    tensors = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
    groups = [
        {key: value for key, value in group.items() if key not in _OWN and first.get(key, ...) != value}
        for group, first in zip(optimizer.param_groups, fresh.param_groups, strict=True)
    ]
    facts = {
        "tensors": len(tensors),
        "numbers": {key: value for key, value in entries.items() if key not in tensors},
        "groups": groups,
        "on_cpu": sorted({key.partition("/")[0] for key, value in tensors.items() if value.device.type == "cpu"}),
    }
    return tensors, facts


def restore_state(
    optimizer: Optimizer,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    parameters: Mapping[str, nn.Parameter],
) -> None:
    """Give a fresh optimizer what `state_of` has returned; earlier versions, which knew AdamW alone, had no facts."""
    on_cpu = set(facts.get("on_cpu", ["step"]))
    if any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups):
        on_cpu = set()
    for key, value in {**tensors, **facts.get("numbers", {})}.items():
        entry, _, name = key.partition("/")
        parameter = parameters[name]
        if isinstance(value, Tensor):
            stays = entry in on_cpu and value.shape != parameter.shape  # AdamW counts its steps on the CPU
            value = value if stays else value.to(parameter.device)
        optimizer.state[parameter][entry] = value
    for group, changed in zip(optimizer.param_groups, facts.get("groups", ()), strict=False):
        group.update(changed)


def _called(config: Config, what: str, make: Callable[[], Any]) -> Any:
    """What code of the user makes; its fault in one line."""
    try:
        return make()
    except ConfigError:
        raise
    except Exception as error:  # of any kind
        line = " ".join(f"{type(error).__name__}: {error}".split())
        name = config.recipe.optimizer
        raise ConfigError(f"optimizer {name} ({config.plugins[name].origin}): {what} ({line})") from error
