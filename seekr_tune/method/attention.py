"""The tap: attention rows and per-head attention outputs, read beside the fused kernel.

transformers looks attention functions up by name on every call, and hands extra keyword arguments of the model down
to them. So a model that is loaded with `attn_implementation=TAP_ATTENTION` can be called as

    tap = AttentionTap(rows={layer: RowRequest(...)})
    model(input_ids=..., attention_mask=..., attention_tap=tap, use_cache=False)
    log_probabilities = tap.rows[layer]          # [pairs, queries, keys]

Outputs always come from the fused kernel. Only the rows that were asked for are computed besides, from the same
queries and keys; no attention map exists at any time. Nothing is patched and nothing is stored on a module, so the tap
works under DDP, PEFT and activation checkpointing (non-reentrant: recomputation calls the tap again, which is why
results are written by key and requests never change).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

TAP_ATTENTION = "seekr_tap"
"""Name under which the tap is registered; it must not contain the name of a backend, whose checks it would trigger."""


@dataclass(frozen=True)
class RowRequest:
    """Attention rows to compute in one layer.

    Attributes:
        samples: batch index of each (sample, head) pair, `[pairs]`.
        heads: query head of each pair, `[pairs]`.
        queries: query positions of each pair in the padded batch, `[pairs, queries]`.
    """

    samples: Tensor
    heads: Tensor
    queries: Tensor


class AttentionTap:
    """What one forward pass shall record, and what it recorded.

    Deliberately a plain class: FSDP2 rebuilds dicts, lists and dataclasses that pass through it, and writes into the
    rebuilt copy would be lost.

    Args:
        rows: rows to compute, by layer.
        capture: layers whose per-head outputs and values are kept, with their graph.
        timed: the rows are computed inside of it; recomputed activations (checkpointing) compute them again.
    """

    def __init__(
        self,
        rows: Mapping[int, RowRequest] | None = None,
        capture: Collection[int] = (),
        timed: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._requests = dict(rows or {})
        self._capture = frozenset(capture)
        self._timed = timed
        self.rows: dict[int, Tensor] = {}
        """Log-probabilities by layer, float32 `[pairs, queries, keys]`; masked keys hold a huge negative number."""
        self.outputs: dict[int, Tensor] = {}
        """Attention outputs by captured layer, `[batch, positions, heads, head_dim]`."""
        self.values: dict[int, Tensor] = {}
        """Value states by captured layer, `[batch, key_value_heads, positions, head_dim]`, without graph."""

    def record(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, output: Tensor
    ) -> Tensor:
        """Called by the attention function of one layer; returns the output that the layer goes on with."""
        if layer in self._requests:
            with self._timed():
                self.rows[layer] = attention_rows(query, key, mask, scaling, self._requests[layer])
        if layer in self._capture:
            # Everything below may be frozen (adapters in late layers only); a gradient at the output is still defined.
            output = output if output.requires_grad else output.detach().requires_grad_(True)
            self.outputs[layer] = output
            self.values[layer] = value.detach()
        return output

    def missing(self) -> list[int]:
        """Layers that were asked for and did not call the tap."""
        return sorted((self._requests.keys() - self.rows.keys()) | (self._capture - self.outputs.keys()))

    def require_complete(self) -> None:
        """Raise RuntimeError naming the layers that swallowed the tap without recording."""
        if self.missing():
            raise RuntimeError(f"attention layers {self.missing()} did not record; the model does not reach the tap")


def attention_rows(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, request: RowRequest) -> Tensor:
    """Log-softmax attention of chosen heads at chosen queries.

    Args:
        query: `[batch, heads, positions, head_dim]`, rotary embedding applied.
        key: `[batch, key_value_heads, positions, head_dim]`.
        mask: `[batch or 1, 1, positions, positions]`, boolean (True: may attend) or additive; None means causal.
        scaling: factor of the scores.
        request: which pairs and queries.

    Returns:
        float32 `[pairs, queries, keys]`; float32 even under autocast, since the noise of a bf16 softmax is larger
        than the divergences that distillation must see.
    """
    samples, heads, queries = request.samples, request.heads, request.queries
    groups = query.shape[1] // key.shape[1]
    with torch.autocast(query.device.type, enabled=False):
        chosen_queries = query[samples[:, None], heads[:, None], queries].float()
        chosen_keys = key.flatten(0, 1).index_select(0, samples * key.shape[1] + heads // groups).float()
        scores = torch.matmul(chosen_queries * scaling, chosen_keys.transpose(1, 2))
        return torch.log_softmax(_masked(scores, mask, samples, queries), dim=-1)


def _masked(scores: Tensor, mask: Tensor | None, samples: Tensor, queries: Tensor) -> Tensor:
    """Scores with unreachable keys at the lowest finite number: -inf would turn 0 x log 0 into NaN in the losses."""
    lowest = torch.finfo(scores.dtype).min
    if mask is None:
        keys = torch.arange(scores.shape[-1], device=scores.device)
        return scores.masked_fill(keys > queries[..., None], lowest)
    if mask.shape[0] == 1:
        samples = torch.zeros_like(samples)
    rows = mask[samples[:, None], 0, queries]
    if rows.dtype == torch.bool:
        return scores.masked_fill(~rows, lowest)
    return (scores + rows).clamp_min(lowest)


def all_heads_request(num_heads: int, queries: Tensor) -> RowRequest:
    """Rows of every head: `queries` is `[batch, queries]`; pairs are ordered sample by sample, head by head."""
    batch = queries.shape[0]
    samples = torch.arange(batch, device=queries.device).repeat_interleave(num_heads)
    heads = torch.arange(num_heads, device=queries.device).repeat(batch)
    return RowRequest(samples, heads, queries.index_select(0, samples))


def _tapped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    attention_tap: AttentionTap | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    if attention_tap is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        layer = getattr(module, "layer_idx", None)
        assert isinstance(layer, int), "an attention module without layer_idx cannot be tapped"
        output = attention_tap.record(layer, query, key, value, attention_mask, scale, output)
    return output, None


AttentionInterface.register(TAP_ATTENTION, _tapped_attention)
# Without a mask function of the same name transformers would drop padding masks silently.
AttentionMaskInterface.register(TAP_ATTENTION, sdpa_mask)
