"""The tap: attention rows and per-head attention outputs, read beside the fused kernel.

transformers looks attention functions up by name on every call, and hands extra keyword arguments of the model down
to them. So a model that is loaded with `attn_implementation=TAP_ATTENTION` can be called as

    tap = AttentionTap(rows={layer: RowRequest(...)})
    model(input_ids=..., attention_mask=..., attention_tap=tap, use_cache=False)
    log_probabilities = tap.rows[layer]          # [pairs, queries, keys]

Outputs always come from the fused kernel. Only the rows that were asked for are computed besides, from the same
queries and keys; no attention map exists at any time. Nothing is patched and nothing is stored on a module, so the tap
works under DDP, PEFT and activation checkpointing (non-reentrant: recomputation calls the tap again, which is why
results are kept by key, the first of each, and requests never change).
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

KNOWN_OPTIONS = frozenset(
    (
        *("dropout", "is_causal"),  # the kernel takes them
        *("sliding_window", "cache_position", "position_ids"),  # in the mask, and in queries and keys, already
        *("use_cache", "output_attentions", "output_hidden_states", "output_router_logits", "return_dict"),
        "num_items_in_batch",  # of the loss; transformers' Trainer hands it to the model
    )
)
"""What attention layers may pass besides, and the tap need not look at. Anything else is refused: passed over, it would
be missing from what the model computes."""


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
        reduce: what becomes of the rows of a layer at once, `(layer, rows)`; None keeps them. Inside a checkpointed
            layer, what it needs for its gradient is recomputed instead of held.
        differentiable: whether rows carry a graph.
    """

    def __init__(
        self,
        rows: Mapping[int, RowRequest] | None = None,
        capture: Collection[int] = (),
        timed: Callable[[], AbstractContextManager[object]] = nullcontext,
        reduce: Callable[[int, Tensor], Tensor] | None = None,
        differentiable: bool = True,
    ) -> None:
        self._requests = dict(rows or {})
        self._capture = frozenset(capture)
        self._timed = timed
        self._reduce = reduce
        self._differentiable = differentiable
        self.rows: dict[int, Tensor] = {}
        """Log-probabilities by layer, float32 `[pairs, queries, keys]`, or what `reduce` made of them; masked keys hold
        a huge negative number."""
        self.outputs: dict[int, Tensor] = {}
        """Attention outputs by captured layer, `[batch, positions, heads, head_dim]`."""
        self.values: dict[int, Tensor] = {}
        """Value states by captured layer, `[batch, key_value_heads, positions, head_dim]`, without graph."""

    def record(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, output: Tensor
    ) -> Tensor:
        """Called by the attention function of one layer; returns the output that the layer goes on with."""
        if layer in self._requests:
            with self._timed(), torch.set_grad_enabled(self._differentiable and torch.is_grad_enabled()):
                rows = attention_rows(query, key, mask, scaling, self._requests[layer])
                rows = rows if self._reduce is None else self._reduce(layer, rows)
            # What a recomputation gives again would keep the layer's recomputed graph alive until the step is over.
            self.rows.setdefault(layer, rows)
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
        mask: `[batch or 1, heads or 1, positions, positions]`, boolean (True: may attend) or additive; None means
            causal.
        scaling: factor of the scores.
        request: which pairs and queries.

    Returns:
        float32 `[pairs, queries, keys]`; float32 even under autocast, since the noise of a bf16 softmax is larger
        than the divergences that distillation must see.
    """
    samples, heads, queries = request.samples, request.heads, request.queries
    num_heads, length = query.shape[1:3]
    groups = num_heads // key.shape[1]
    # One flat index, into the order in which projections write: its gradient is a sum into place, that of three
    # indices a sort on GPUs.
    flat = (samples[:, None] * length + queries) * num_heads + heads[:, None]
    with torch.autocast(query.device.type, enabled=False):
        rows = query.transpose(1, 2).flatten(0, 2).index_select(0, flat.flatten())
        chosen_queries = rows.view(*flat.shape, -1)
        chosen_keys = key.flatten(0, 1).index_select(0, samples * key.shape[1] + heads // groups)
        scores = _scores(chosen_queries, chosen_keys, scaling)
        return torch.log_softmax(_masked(scores, mask, request), dim=-1)


def _scores(queries: Tensor, keys: Tensor, scaling: float) -> Tensor:
    """float32 scores of each pair, `[pairs, queries, keys]`."""
    if queries.device.type == "cuda" and queries.dtype == keys.dtype == torch.bfloat16:
        scores: Tensor = _BFloat16Scores.apply(queries, keys, scaling)  # type: ignore[no-untyped-call]
        return scores
    return torch.matmul(queries.float() * scaling, keys.float().transpose(1, 2))


class _BFloat16Scores(torch.autograd.Function):
    """Scores of bfloat16 states, summed in float32 by a GPU's matrix units.

    Products of bfloat16 numbers are exact in float32, so that scores are as precise as those of converted states. The
    gradient of the scores is rounded to bfloat16, as the fused attention kernels round it.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, scaling: float) -> Tensor:
        ctx.save_for_backward(queries, keys)
        ctx.scaling = scaling
        return torch.bmm(queries, keys.transpose(1, 2), torch.float32).mul_(scaling)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        queries, keys = ctx.saved_tensors
        scaled = (gradient * ctx.scaling).to(queries.dtype)
        return torch.bmm(scaled, keys), torch.bmm(scaled.transpose(1, 2), queries), None


def _masked(scores: Tensor, mask: Tensor | None, request: RowRequest) -> Tensor:
    """Scores with unreachable keys at the lowest finite number: -inf would turn 0 x log 0 into NaN in the losses."""
    lowest = torch.finfo(scores.dtype).min
    if mask is None:
        keys = torch.arange(scores.shape[-1], device=scores.device)
        return scores.masked_fill(keys > request.queries[..., None], lowest)
    samples, heads = (
        places if size > 1 else torch.zeros_like(places)
        for places, size in zip((request.samples, request.heads), mask.shape[:2], strict=True)
    )
    rows = mask[samples[:, None], heads[:, None], request.queries]
    if rows.dtype == torch.bool:
        return scores.masked_fill(~rows, lowest)
    return (scores + rows).clamp_min(lowest)


def all_heads_request(num_heads: int, queries: Tensor) -> RowRequest:
    """Rows of every head: `queries` is `[batch, queries]`; pairs are ordered sample by sample, head by head."""
    batch = queries.shape[0]
    samples = torch.arange(batch, device=queries.device).repeat_interleave(num_heads)
    heads = torch.arange(num_heads, device=queries.device).repeat(batch)
    return RowRequest(samples, heads, queries.index_select(0, samples))


def recompute_activations(model: Any) -> None:
    """Compute the activations of a model's layers once more in the backward pass, rather than keep them.

    Never the reentrant kind: it drops the gradient of everything the tap recorded, silently.
    """
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable()
    else:  # transformers before 5.23
        model.gradient_checkpointing_enable()


def _tapped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    attention_tap: AttentionTap | None = None,
    indices: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    unknown = sorted(name for name in options.keys() - KNOWN_OPTIONS if options[name] is not None)
    if unknown:  # sinks, say: what a layer asks for must not be passed over
        raise TypeError(f"its attention layers pass {', '.join(unknown)}, which the tap does not know")
    if indices is not None:
        attention_mask = _with_indices(attention_mask, indices, key.shape[2])
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    if attention_tap is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        layer = getattr(module, "layer_idx", None)
        assert isinstance(layer, int), "an attention module without layer_idx cannot be tapped"
        output = attention_tap.record(layer, query, key, value, attention_mask, scale, output)
    return output, None


def _with_indices(mask: Tensor | None, indices: Tensor, num_keys: int) -> Tensor:
    """A mask without the keys that an indexer did not choose.

    transformers makes it itself for attention functions whose names it knows, and hands others the indices.

    Args:
        indices: keys of each query, `[batch, positions, chosen]`.
    """
    assert mask is not None, "an indexer needs a mask"
    chosen = torch.zeros(*indices.shape[:2], num_keys, dtype=torch.bool, device=indices.device)
    chosen = chosen.scatter_(-1, indices.long(), True)[:, None]
    return mask & chosen if mask.dtype == torch.bool else mask.masked_fill(~chosen, torch.finfo(mask.dtype).min)


AttentionInterface.register(TAP_ATTENTION, _tapped_attention)
# Without a mask function of the same name transformers would drop padding masks silently.
AttentionMaskInterface.register(TAP_ATTENTION, sdpa_mask)
