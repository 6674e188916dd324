"""From head importance and budgets to the heads that are distilled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from seekr_tune.errors import ConfigError


@dataclass(frozen=True)
class HeadSelection:
    """Heads kept, by layer; layers and heads ascend, and layers without a head are absent."""

    heads: Mapping[int, tuple[int, ...]]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((layer, head) for layer, heads in self.heads.items() for head in heads)

    def __len__(self) -> int:
        return sum(len(heads) for heads in self.heads.values())


def select_heads(importance: Tensor, num_layers: int, num_heads: int) -> HeadSelection:
    """Keep the best layers, then the best heads among all of theirs.

    Layers are ranked by the sum of their heads' importance. The head budget is pooled over the kept layers, so a kept
    layer may end up without a head. Ties go to the lower layer and the lower head, on every machine.

    Args:
        importance: `[layers, heads]`.
        num_layers: layers that may hold selected heads.
        num_heads: heads kept in total.

    Raises:
        ConfigError: a budget exceeds what the model, or the kept layers, have.
    Source: paper equation (11); official `select_layer_head`.
    """
    layers, heads_per_layer = importance.shape
    if not 1 <= num_layers <= layers:
        raise ConfigError(f"layer budget {num_layers} must lie in 1..{layers}, the model's layers; lower it")
    if not 1 <= num_heads <= num_layers * heads_per_layer:
        raise ConfigError(
            f"head budget {num_heads} must lie in 1..{num_layers * heads_per_layer}, the heads of the "
            f"{num_layers} kept layers; lower it or raise the layer ratio"
        )
    kept_layers = _largest(importance.sum(dim=1), num_layers)
    kept = _largest(importance[kept_layers].flatten(), num_heads)
    chosen: dict[int, list[int]] = {}
    for position in kept.tolist():
        layer = int(kept_layers[position // heads_per_layer])
        chosen.setdefault(layer, []).append(position % heads_per_layer)
    return HeadSelection({layer: tuple(heads) for layer, heads in chosen.items()})


def all_heads(num_layers: int, num_heads: int) -> HeadSelection:
    """Every head of a model with `num_heads` heads a layer."""
    return HeadSelection({layer: tuple(range(num_heads)) for layer in range(num_layers)})


@dataclass(frozen=True)
class Budgets:
    """Absolute budgets for one model."""

    num_layers: int
    num_heads: int


def resolve_budgets(head_budget: int | float, layer_ratio: float, model_layers: int, model_heads: int) -> Budgets:
    """Budgets of the config in numbers of this model's layers and heads.

    Args:
        head_budget: a count, or a fraction of all heads.
        layer_ratio: share of layers that may hold selected heads.
        model_layers: layers of the model.
        model_heads: heads of one layer.

    A fraction, being relative, is held to what the kept layers offer (0.9 of all heads in half of the layers is every
    head of those); a count that does not fit is an error.

    Raises:
        ConfigError: a counted head budget above the heads of the kept layers.
    """
    num_layers = max(1, round(layer_ratio * model_layers))
    available = num_layers * model_heads
    if isinstance(head_budget, float):
        return Budgets(num_layers, min(available, max(1, round(head_budget * model_layers * model_heads))))
    if head_budget > available:
        raise ConfigError(
            f"method.seekr.head_budget={head_budget} exceeds the {available} heads of the {num_layers} layers that "
            f"method.seekr.layer_ratio={layer_ratio} keeps ({model_heads} heads a layer); lower it or raise the ratio"
        )
    return Budgets(num_layers, head_budget)


def _largest(values: Tensor, count: int) -> Tensor:
    """Indices of the largest values, ascending; ties go to the lower index (topk leaves them open)."""
    order = torch.sort(values, descending=True, stable=True).indices
    return order[:count].sort().values
