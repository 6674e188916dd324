"""What a teacher is asked: the passes before and after a task, which read attention, logits and sensitivity.

All take a model that was loaded with `TAP_ATTENTION` and batches that are padded on the left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from seekr_tune.methods.losses import label_rows, sample_cross_entropy
from seekr_tune.methods.passes import Tokens, answer_logits
from seekr_tune.methods.seekr.attention import AttentionTap, RowRequest, all_heads_request
from seekr_tune.methods.semantics import Semantics
from seekr_tune.methods.storage import visible_places
from seekr_tune.methods.transfer import arrival_of_downloads, download, to_device

T_co = TypeVar("T_co", covariant=True)

LAYERS_AT_ONCE = 4
"""Layers whose gradient energy is computed together: on a GPU each small kernel costs more to start than to run."""


@dataclass(frozen=True)
class Before:
    """What the attention of a batch was before its task, to compare with.

    Attributes:
        rows: what `observe_rows` gave, `[layers, heads x visible of all samples]`, where the model computes.
        weights: by sample, `Semantics.change_weights`.
    """

    rows: Tensor
    weights: Sequence[Tensor]


@dataclass(frozen=True)
class Observation:
    """What the end-of-task pass reads of a batch, on the CPU; lists have one entry a sample.

    Attributes:
        rows: visible probabilities, `[layers, heads, visible]`.
        logits: rows that logit distillation reads, `[labels, vocabulary]`, in the precision of computation.
        energy: mean square gradient at the attention map, `[batch, layers, heads]`.
        moved: weighted sum of squared changes since `before`, `[batch, layers, heads]`; None without it.
        losses: cross-entropy of each sample alone, `[batch]`.
    """

    rows: list[Tensor]
    logits: list[Tensor]
    energy: Tensor
    moved: Tensor | None
    losses: Tensor


class Arriving(Protocol[T_co]):
    """Waits, in any thread, for what a GPU is still computing and sending."""

    def __call__(self, into: Sequence[Tensor] | None = None) -> T_co:
        """What was read; its attention rows in new tensors, or in `into`, which is overwritten."""


@torch.no_grad()
def observe_rows(
    model: nn.Module,
    tokens: Tokens,
    queries: Sequence[Tensor],
    semantics: Semantics,
    shape: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> Arriving[list[Tensor]]:
    """Attention of every head at the chosen queries of each sample.

    Args:
        queries: negative positions from the end, one tensor a sample.
        shape: layers of the model, heads of a layer.
        dtype: precision in which they are kept.

    Returns:
        what waits for visible probabilities by sample (`storage.pack_rows`), `[layers, heads, visible]` on the CPU.
    """
    reading = _Reading(tokens, queries, shape, dtype)
    tap = AttentionTap(rows=reading.requests(), reduce=reading.reduce)
    answer_logits(model, tokens, semantics, tap, semantics.importance_mask(tokens.attention_mask))
    return reading.collector(tap)


@torch.no_grad()
def observe_logits(model: nn.Module, tokens: Tokens, semantics: Semantics) -> list[Tensor]:
    """Logit rows that distillation reads, by sample, `[labels, vocabulary]` on the CPU."""
    counts = tokens.label_counts(semantics.logit_shift)
    rows = label_rows(answer_logits(model, tokens, semantics), tokens.labels, semantics.logit_shift, sum(counts))
    return list(torch.split(rows.cpu(), counts))


def observe(
    model: nn.Module,
    tokens: Tokens,
    queries: Sequence[Tensor],
    semantics: Semantics,
    shape: tuple[int, int],
    loss_scale: float = 1.0,
    before: Before | None = None,
    dtype: torch.dtype = torch.float32,
) -> Arriving[Observation]:
    """Rows, logits, gradient energy and change of a batch in one forward and one backward pass.

    The loss is the sum over samples of each sample's own mean cross-entropy, so samples stay independent: a batch
    gives what the samples give one by one. A GPU is not waited for, where the sizes of the batch are known.

    Args:
        loss_scale: factor of the loss in the backward pass; matters only where its gradients are left over.
        before: attention to compare with.
        dtype: precision in which rows are kept.
    """
    reading = _Reading(tokens, queries, shape, dtype, before)
    tap = AttentionTap(reading.requests(), capture=range(shape[0]), reduce=reading.reduce, differentiable=False)
    logits = answer_logits(model, tokens, semantics, tap, semantics.importance_mask(tokens.attention_mask))
    losses = sample_cross_entropy(logits, tokens.labels)
    gradients = _output_gradients(losses.sum() * loss_scale, tap, semantics)
    energy = [_energy(gradients, tap, tokens, semantics, layers) for layers in _alike(tap.values)]
    counts, shift = tokens.label_counts(semantics.logit_shift), semantics.logit_shift
    stored = download(label_rows(logits.detach(), tokens.labels, shift, sum(counts)))
    energies, moved, own_losses = download(torch.cat(energy, dim=1)), reading.moved(), download(losses.detach())
    collect = reading.collector(tap)

    def arriving(into: Sequence[Tensor] | None = None) -> Observation:
        return Observation(collect(into), list(torch.split(stored, counts)), energies, moved, own_losses)

    return arriving


class _Reading:
    """Attention of all heads, layer by layer: what is visible goes to main memory, what changed is summed up.

    The device never holds the rows of all layers.
    """

    def __init__(
        self,
        tokens: Tokens,
        queries: Sequence[Tensor],
        shape: tuple[int, int],
        dtype: torch.dtype,
        before: Before | None = None,
    ) -> None:
        self._device, self._dtype = tokens.input_ids.device, dtype
        self._num_layers, self._num_heads = shape
        self._queries, self._padded_length = queries, tokens.input_ids.shape[1]
        self._before = before
        self._moved: dict[int, Tensor] = {}
        width = self._padded_length
        places = [visible_places(own, n, width, width - n) for own, n in zip(queries, tokens.lengths, strict=True)]
        self._sizes = [self._num_heads * len(own) for own in places]
        self._places = self._in_all_heads([to_device(own, self._device) for own in places])
        self._weights = None
        if before is not None:
            self._weights = torch.cat([own.repeat(self._num_heads) for own in before.weights])

    def requests(self) -> dict[int, RowRequest]:
        """Every head of every layer."""
        absolute = torch.full((len(self._queries), self._num_queries), self._padded_length - 1)
        for row, own in enumerate(self._queries):
            absolute[row, : len(own)] = own + self._padded_length
        request = all_heads_request(self._num_heads, to_device(absolute, self._device))
        return dict.fromkeys(range(self._num_layers), request)

    def reduce(self, layer: int, rows: Tensor) -> Tensor:
        """For `AttentionTap`: visible probabilities of a layer, sample after sample, on their way to the CPU."""
        visible = rows.exp_().flatten().index_select(0, self._places)
        if self._before is not None and self._weights is not None:
            moved = (visible - self._before.rows[layer]).square_().mul_(self._weights)
            by_sample = [own.view(self._num_heads, -1).sum(dim=1) for own in torch.split(moved, self._sizes)]
            self._moved[layer] = torch.stack(by_sample)
        return download(visible.to(self._dtype))

    def moved(self) -> Tensor | None:
        """Changes since `before`, `[batch, layers, heads]`, on their way to the CPU."""
        if self._before is None:
            return None
        return download(torch.stack([self._moved[layer] for layer in range(self._num_layers)], dim=1))

    def collector(self, tap: AttentionTap) -> Arriving[list[Tensor]]:
        """What waits for every download so far, and gives the rows by sample."""
        layers, arrived = tap.rows, arrival_of_downloads(self._device)

        def collect(into: Sequence[Tensor] | None = None) -> list[Tensor]:
            arrived()
            parts = zip(*(torch.split(layers[layer], self._sizes) for layer in range(self._num_layers)), strict=True)
            if into is None:
                return [torch.stack(own).view(self._num_layers, self._num_heads, -1) for own in parts]
            for own, place in zip(parts, into, strict=True):
                torch.stack(own, out=place.view(self._num_layers, -1))  # a copy would be lost
            return list(into)

        return collect

    @property
    def _num_queries(self) -> int:
        return max(map(len, self._queries))

    def _in_all_heads(self, places: Sequence[Tensor]) -> Tensor:
        """Of places in one head's `[queries, positions]`, those in a flat `[batch, heads, queries, positions]`."""
        size = self._num_queries * self._padded_length
        heads = torch.arange(self._num_heads, device=self._device)[:, None]
        return torch.cat([((i * self._num_heads + heads) * size + own).flatten() for i, own in enumerate(places)])


def _alike(values: Mapping[int, Tensor]) -> Iterator[list[int]]:
    """Layers in their order, a few at once; those of one group have the same heads of the same width."""
    for _, layers in groupby(sorted(values), key=lambda layer: values[layer].shape):
        group = list(layers)
        for start in range(0, len(group), LAYERS_AT_ONCE):
            yield group[start : start + LAYERS_AT_ONCE]


def _energy(
    gradients: Mapping[int, Tensor], tap: AttentionTap, tokens: Tokens, semantics: Semantics, layers: Sequence[int]
) -> Tensor:
    """Mean square gradient at the attention map, `[batch, layers, heads]`."""
    gradient = torch.cat([gradients[layer] for layer in layers])
    value = torch.cat([tap.values[layer] for layer in layers])
    energy = semantics.gradient_energy(gradient, value, tokens.attention_mask.repeat(len(layers), 1))
    return energy.view(len(layers), -1, energy.shape[1]).transpose(0, 1)


def _output_gradients(loss: Tensor, tap: AttentionTap, semantics: Semantics) -> dict[int, Tensor]:
    """dL/dO of every captured layer."""
    layers = list(tap.outputs)
    outputs = [tap.outputs[layer] for layer in layers]
    if not semantics.leaks_importance_gradients:
        return dict(zip(layers, torch.autograd.grad(loss, outputs), strict=True))
    for output in outputs:
        output.retain_grad()
    torch.autograd.backward(loss)
    gradients = [output.grad for output in outputs]
    assert all(gradient is not None for gradient in gradients)
    return {layer: gradient for layer, gradient in zip(layers, gradients, strict=True) if gradient is not None}
