"""Which heads matter: task sensitivity x forgettability.

With O = A V the gradient at the attention map is dL/dA = dO V^T, so its squared Frobenius norm is an inner product of
two head_dim x head_dim Gram matrices, `<dO^T dO, V^T V>`. The gradient at the per-head attention output, which any
fused kernel gives, is enough: no attention map is built.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

QUERY_BLOCK = 128
"""Query rows of one block of the causal sum: positions x QUERY_BLOCK entries of a head are formed, never a map."""


def dense_gradient_energy(output_gradient: Tensor, value: Tensor) -> Tensor:
    """Sum of squares of dL/dA over ALL positions x positions entries, `[batch, heads]`.

    Args:
        output_gradient: gradient at the attention output, `[batch, positions, heads, head_dim]`.
        value: value states, `[batch, key_value_heads, positions, head_dim]`.

    Source: paper equations (7)-(8); the official release squares the whole map, masked entries included.
    """
    gradient = output_gradient.float().transpose(1, 2)
    return (_gram(gradient) * _per_head(_gram(value.float()), gradient.shape[1])).sum(dim=(-2, -1))


def causal_gradient_energy(output_gradient: Tensor, value: Tensor, attention_mask: Tensor) -> Tensor:
    """Sum of squares of dL/dA over entries with a real query, a real key, and key <= query, `[batch, heads]`.

    Keys of earlier blocks enter by their accumulated Gram matrix; only the blocks on the diagonal are products. All
    blocks are computed at once: on a GPU a loop over them would cost more in launches than in arithmetic.

    Args:
        output_gradient, value: as in `dense_gradient_energy`.
        attention_mask: 1 at real tokens, `[batch, positions]`.
    """
    real = attention_mask.to(output_gradient.device, torch.float32)[:, None, :, None]
    rows = _blocks(output_gradient.transpose(1, 2) * real)
    keys = _blocks(value * real)
    num_heads = rows.shape[1]
    grams = _gram(keys)
    earlier = pad(grams[:, :, :-1].cumsum(dim=2), (0, 0, 0, 0, 1, 0))
    before = torch.einsum("bhnij,bhnij->bh", _gram(rows), _per_head(earlier, num_heads))
    diagonal = (rows @ _per_head(keys, num_heads).transpose(-2, -1)).tril_()
    return before + diagonal.square_().sum(dim=(-3, -2, -1))


def _blocks(states: Tensor) -> Tensor:
    """Positions cut into blocks, the last one filled up with zeros, `[batch, heads, blocks, QUERY_BLOCK, head_dim]`."""
    filling = -states.shape[2] % QUERY_BLOCK
    filled = pad(states, (0, 0, 0, filling))
    return filled.reshape(*states.shape[:2], -1, QUERY_BLOCK, states.shape[3])


def normalise_layers(energy: Tensor) -> Tensor:
    """Divide each row of `[layers, heads]` by its sum; a layer without any gradient stays zero."""
    return energy / energy.sum(dim=1, keepdim=True).clamp_min(torch.finfo(energy.dtype).tiny)


@dataclass(frozen=True)
class HeadScores:
    """Sensitivity, forgettability and importance of every head, each `[layers, heads]` in float32.

    Of one task, or summed over tasks. Sums hold the sum of products, not the product of sums (the paper writes the
    latter; the published numbers come from the former).
    """

    sensitivity: Tensor
    forgettability: Tensor
    importance: Tensor

    @classmethod
    def zeros(cls, num_layers: int, num_heads: int) -> HeadScores:
        """Nothing learned yet."""
        return cls(*(torch.zeros(num_layers, num_heads) for _ in range(3)))

    @classmethod
    def of_task(cls, sensitivity: Tensor, forgettability: Tensor) -> HeadScores:
        """Scores of one task. Source: paper equation (10)."""
        return cls(sensitivity, forgettability, sensitivity * forgettability)

    def __add__(self, other: HeadScores) -> HeadScores:
        return HeadScores(
            self.sensitivity + other.sensitivity,
            self.forgettability + other.forgettability,
            self.importance + other.importance,
        )


def _gram(states: Tensor) -> Tensor:
    return states.transpose(-2, -1) @ states


def _per_head(states: Tensor, num_heads: int) -> Tensor:
    """Repeat key-value heads so that there is one for each query head (grouped-query attention)."""
    return states.repeat_interleave(num_heads // states.shape[1], dim=1)
