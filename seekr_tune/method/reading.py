"""What a teacher is asked: the passes before and after a task, which read attention, logits and sensitivity.

All take a model that was loaded with `TAP_ATTENTION` and batches that are padded on the left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from seekr_tune.method.attention import AttentionTap, RowRequest, all_heads_request
from seekr_tune.method.losses import IGNORED, label_rows, sample_cross_entropy
from seekr_tune.method.passes import Tokens, answer_logits
from seekr_tune.method.semantics import Semantics
from seekr_tune.method.storage import visible_places
from seekr_tune.method.transfer import arrival_of_downloads, download


@dataclass(frozen=True)
class Before:
    """What the attention of a batch was before its task, to compare with.

    Attributes:
        rows: by sample, as `observe_rows` gave them, where the model computes.
        weights: by sample, `Semantics.change_weights`.
    """

    rows: Sequence[Tensor]
    weights: Sequence[Tensor]


@dataclass(frozen=True)
class Observation:
    """What the end-of-task pass reads of a batch; lists have one entry a sample.

    Attributes:
        collect: gives `rows`.
        logits: rows that logit distillation reads, `[labels, vocabulary]` on the CPU, in the precision of computation.
        energy: mean square gradient at the attention map, `[batch, layers, heads]` on the CPU.
        moved: weighted sum of squared changes since `before`, `[batch, layers, heads]` on the CPU; None without it.
        losses: cross-entropy of each sample alone, `[batch]`.
    """

    collect: Callable[[], list[Tensor]]
    logits: list[Tensor]
    energy: Tensor
    moved: Tensor | None
    losses: Tensor

    @cached_property
    def rows(self) -> list[Tensor]:
        """Visible probabilities, `[layers, heads, visible]` on the CPU. A GPU may still be sending them when this is
        asked for the first time, which any thread may do."""
        return self.collect()


@torch.no_grad()
def observe_rows(
    model: nn.Module,
    tokens: Tokens,
    queries: Sequence[Tensor],
    semantics: Semantics,
    shape: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> Callable[[], list[Tensor]]:
    """Attention of every head at the chosen queries of each sample.

    Args:
        queries: negative positions from the end, one tensor a sample.
        shape: layers of the model, heads of a layer.
        dtype: precision in which they are kept.

    Returns:
        what waits for them (in any thread) and gives visible probabilities by sample (`storage.pack_rows`),
        `[layers, heads, visible]` on the CPU.
    """
    reading = _Reading(tokens, queries, shape, dtype)
    tap = AttentionTap(rows=reading.requests(), reduce=reading.reduce)
    answer_logits(model, tokens, semantics, tap, semantics.importance_mask(tokens.attention_mask))
    return reading.collector(tap)


@torch.no_grad()
def observe_logits(model: nn.Module, tokens: Tokens, semantics: Semantics) -> list[Tensor]:
    """Logit rows that distillation reads, by sample, `[labels, vocabulary]` on the CPU."""
    return _split_logits(answer_logits(model, tokens, semantics), tokens, semantics)


def observe(
    model: nn.Module,
    tokens: Tokens,
    queries: Sequence[Tensor],
    semantics: Semantics,
    shape: tuple[int, int],
    loss_scale: float = 1.0,
    before: Before | None = None,
    dtype: torch.dtype = torch.float32,
) -> Observation:
    """Rows, logits, gradient energy and change of a batch in one forward and one backward pass.

    The loss is the sum over samples of each sample's own mean cross-entropy, so samples stay independent: a batch
    gives what the samples give one by one.

    Args:
        loss_scale: factor of the loss in the backward pass; matters only where its gradients are left over.
        before: attention to compare with.
        dtype: precision in which rows are kept.
    """
    reading = _Reading(tokens, queries, shape, dtype, before)
    layers = range(shape[0])
    tap = AttentionTap(reading.requests(), capture=layers, reduce=reading.reduce, differentiable=False)
    logits = answer_logits(model, tokens, semantics, tap, semantics.importance_mask(tokens.attention_mask))
    losses = sample_cross_entropy(logits, tokens.labels)
    gradients = _output_gradients(losses.sum() * loss_scale, tap, semantics)
    energy = torch.stack(
        [semantics.gradient_energy(gradients[layer], tap.values[layer], tokens.attention_mask) for layer in layers],
        dim=1,
    )
    return Observation(
        collect=reading.collector(tap),
        logits=_split_logits(logits.detach(), tokens, semantics),
        energy=energy.cpu(),
        moved=reading.moved(),
        losses=losses.detach().cpu(),
    )


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
        self._sizes = [len(own) for own in places]
        self._places = [own.to(self._device) for own in places]

    def requests(self) -> dict[int, RowRequest]:
        """Every head of every layer."""
        absolute = torch.full((len(self._queries), max(map(len, self._queries))), self._padded_length - 1)
        for row, own in enumerate(self._queries):
            absolute[row, : len(own)] = own + self._padded_length
        request = all_heads_request(self._num_heads, absolute.to(self._device))
        return dict.fromkeys(range(self._num_layers), request)

    def reduce(self, layer: int, rows: Tensor) -> Tensor:
        """For `AttentionTap`: visible probabilities of a layer, sample after sample, on their way to the CPU."""
        by_sample = rows.exp_().view(-1, self._num_heads, rows.shape[1] * rows.shape[2])
        visible = [own.index_select(1, places) for own, places in zip(by_sample, self._places, strict=True)]
        if self._before is not None:
            self._moved[layer] = torch.stack(
                [
                    (own - old[layer].float()).square_() @ weights
                    for own, old, weights in zip(visible, self._before.rows, self._before.weights, strict=True)
                ]
            )
        return download(torch.cat([own.flatten() for own in visible]).to(self._dtype))

    def moved(self) -> Tensor | None:
        """Changes since `before`, `[batch, layers, heads]` on the CPU."""
        if self._before is None:
            return None
        return torch.stack([self._moved[layer] for layer in range(self._num_layers)], dim=1).cpu()

    def collector(self, tap: AttentionTap) -> Callable[[], list[Tensor]]:
        """What waits for the rows, and gives them by sample."""
        layers, arrived = tap.rows, arrival_of_downloads(self._device)

        def collect() -> list[Tensor]:
            arrived()
            sizes = [self._num_heads * size for size in self._sizes]
            parts = [torch.split(layers[layer], sizes) for layer in range(self._num_layers)]
            return [torch.stack(own).view(self._num_layers, self._num_heads, -1) for own in zip(*parts, strict=True)]

        return collect


def _split_logits(logits: Tensor, tokens: Tokens, semantics: Semantics) -> list[Tensor]:
    rows = label_rows(logits, tokens.labels, semantics.logit_shift).cpu()
    counts = (tokens.labels[:, semantics.logit_shift :] != IGNORED).sum(dim=1).tolist()
    return list(torch.split(rows, counts))


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
