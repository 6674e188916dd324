"""The forward passes that SEEKR adds to training: reading the teacher when a task ends, and the replay step.

All take a model that was loaded with `TAP_ATTENTION` and batches that are padded on the left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from seekr_tune.method.attention import AttentionTap, RowRequest, all_heads_request
from seekr_tune.method.losses import (
    IGNORED,
    answer_cross_entropy,
    attention_distillation,
    label_rows,
    row_divergence,
    sample_cross_entropy,
    soft_cross_entropy,
)
from seekr_tune.method.memory import ReplaySample, logit_targets, row_targets
from seekr_tune.method.semantics import Semantics
from seekr_tune.method.transfer import arrival_of_downloads, download


@dataclass(frozen=True)
class Tokens:
    """A batch, padded on the left; each tensor is `[batch, positions]`, int64.

    Attributes:
        input_ids: token ids.
        attention_mask: 1 at real tokens.
        labels: token ids to learn at the end of each row, IGNORED elsewhere.
        longest_answer: label tokens of the row that has most; None: counted where it is needed, and a GPU waited for.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    longest_answer: int | None = None

    @property
    def lengths(self) -> list[int]:
        """Real tokens of each row."""
        return [int(length) for length in self.attention_mask.sum(dim=1)]

    @property
    def num_labels(self) -> int:
        """Label tokens of the whole batch that have a predecessor to be predicted from."""
        return int((self.labels[:, 1:] != IGNORED).sum())


def answer_logits(
    model: nn.Module,
    tokens: Tokens,
    semantics: Semantics,
    tap: AttentionTap | None = None,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Logits of the last positions only, as many as the longest answer of the batch needs.

    Args:
        attention_mask: given to the model instead of the batch's own mask.

    Returns:
        `[batch, kept, vocabulary]`, the last `kept` positions.
    """
    longest = tokens.longest_answer
    if longest is None:
        longest = int((tokens.labels != IGNORED).sum(dim=1).max())
    kept = min(longest + 1, tokens.labels.shape[1])
    options: dict[str, object] = {} if tap is None else {"attention_tap": tap}
    positions = semantics.position_ids(tokens.attention_mask)
    if positions is not None:
        options["position_ids"] = positions
    output = model(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask if attention_mask is None else attention_mask,
        use_cache=False,
        logits_to_keep=kept,
        **options,
    )
    if tap is not None:
        tap.require_complete()
    logits: Tensor = output.logits
    return logits


@torch.no_grad()
def observe_rows(
    model: nn.Module, tokens: Tokens, queries: Sequence[Tensor], semantics: Semantics, shape: tuple[int, int]
) -> Callable[[], list[Tensor]]:
    """Attention of every head at the chosen queries of each sample.

    Args:
        queries: negative positions from the end, one tensor a sample.
        shape: layers of the model, heads of a layer.

    Returns:
        what waits for them (in any thread) and gives probabilities by sample, `[layers, heads, queries, length]` on the
        CPU.
    """
    tap = AttentionTap(rows=_every_layer(shape, tokens, queries), reduce=_to_main_memory)
    answer_logits(model, tokens, semantics, tap, semantics.importance_mask(tokens.attention_mask))
    return _collector(tap, tokens, queries, shape)


@torch.no_grad()
def observe_logits(model: nn.Module, tokens: Tokens, semantics: Semantics) -> list[Tensor]:
    """Logit rows that distillation reads, by sample, `[labels, vocabulary]` on the CPU."""
    return _split_logits(answer_logits(model, tokens, semantics), tokens, semantics)


@dataclass(frozen=True)
class Observation:
    """What the end-of-task pass reads of a batch; lists have one entry a sample.

    Attributes:
        collect: gives `rows`.
        logits: rows that logit distillation reads, `[labels, vocabulary]` on the CPU.
        energy: mean square gradient at the attention map, `[batch, layers, heads]` on the CPU.
        losses: cross-entropy of each sample alone, `[batch]`.
    """

    collect: Callable[[], list[Tensor]]
    logits: list[Tensor]
    energy: Tensor
    losses: Tensor

    @cached_property
    def rows(self) -> list[Tensor]:
        """Probabilities, `[layers, heads, queries, length]` on the CPU. A GPU may still be sending them when this is
        asked for the first time, which any thread may do."""
        return self.collect()


def observe(
    model: nn.Module,
    tokens: Tokens,
    queries: Sequence[Tensor],
    semantics: Semantics,
    shape: tuple[int, int],
    loss_scale: float = 1.0,
) -> Observation:
    """Rows, logits and gradient energy of a batch in one forward and one backward pass.

    The loss is the sum over samples of each sample's own mean cross-entropy, so samples stay independent: a batch
    gives what the samples give one by one.

    Args:
        loss_scale: factor of the loss in the backward pass; matters only where its gradients are left over.
    """
    layers = range(shape[0])
    requests = _every_layer(shape, tokens, queries)
    tap = AttentionTap(requests, capture=layers, reduce=_to_main_memory, differentiable=False)
    logits = answer_logits(model, tokens, semantics, tap, semantics.importance_mask(tokens.attention_mask))
    losses = sample_cross_entropy(logits, tokens.labels)
    gradients = _output_gradients(losses.sum() * loss_scale, tap, semantics)
    energy = torch.stack(
        [semantics.gradient_energy(gradients[layer], tap.values[layer], tokens.attention_mask) for layer in layers],
        dim=1,
    )
    return Observation(
        collect=_collector(tap, tokens, queries, shape),
        logits=_split_logits(logits.detach(), tokens, semantics),
        energy=energy.cpu(),
        losses=losses.detach().cpu(),
    )


@dataclass(frozen=True)
class ReplayLosses:
    """Terms of one replay batch, each a scalar; None where a term is not distilled.

    Attributes:
        cross_entropy: sum over label tokens.
        logits: soft cross-entropy, sum over label tokens.
        attention: weighted sum of row divergences; its weights already divide it.
    """

    cross_entropy: Tensor
    logits: Tensor | None
    attention: Tensor | None


def replay_losses(
    model: nn.Module,
    tokens: Tokens,
    samples: Sequence[ReplaySample],
    semantics: Semantics,
    *,
    distil_logits: bool,
    distil_attention: bool,
    step_rows: int,
    timed: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> ReplayLosses:
    """Cross-entropy and distillation terms of a batch of stored samples, in one forward pass.

    Args:
        samples: the stored samples, in the order of the rows of `tokens`.
        step_rows: attention rows of the whole step, over all its micro-batches and workers.
        timed: entered wherever there is work for distillation alone.
    """
    device = tokens.input_ids.device
    with timed():
        targets = row_targets(samples, tokens.input_ids.shape[1], device) if distil_attention else {}
        if distil_logits:
            num_rows, teacher = logit_targets(samples, device)

        def diverge(layer: int, rows: Tensor) -> Tensor:
            return row_divergence(rows, targets[layer].probabilities, semantics.student_epsilon)

        tap = AttentionTap({layer: target.request for layer, target in targets.items()}, timed=timed, reduce=diverge)
    logits = answer_logits(model, tokens, semantics, tap)
    logit_term = attention_term = None
    with timed():
        if distil_logits:
            student = label_rows(logits, tokens.labels, semantics.logit_shift, num_rows)
            logit_term = soft_cross_entropy(student, teacher())
        if distil_attention:
            weights = semantics.row_weights(targets, len(samples), step_rows)
            attention_term = attention_distillation(tap.rows, weights)
    return ReplayLosses(answer_cross_entropy(logits, tokens.labels), logit_term, attention_term)


def count_rows(samples: Sequence[ReplaySample]) -> int:
    """Selected (layer, head, query) rows of stored samples."""
    return sum(len(sample.queries) * len(heads) for sample in samples for heads in sample.heads.values())


def _every_layer(shape: tuple[int, int], tokens: Tokens, queries: Sequence[Tensor]) -> dict[int, RowRequest]:
    num_layers, num_heads = shape
    padded_length = tokens.input_ids.shape[1]
    absolute = torch.full((len(queries), max(len(own) for own in queries)), padded_length - 1)
    for row, own in enumerate(queries):
        absolute[row, : len(own)] = own + padded_length
    return dict.fromkeys(range(num_layers), all_heads_request(num_heads, absolute.to(tokens.input_ids.device)))


def _collector(
    tap: AttentionTap, tokens: Tokens, queries: Sequence[Tensor], shape: tuple[int, int]
) -> Callable[[], list[Tensor]]:
    num_layers, num_heads = shape
    padded_length, lengths = tokens.input_ids.shape[1], tokens.lengths
    downloads, arrived = tap.rows, arrival_of_downloads(tokens.input_ids.device)

    def collect() -> list[Tensor]:
        arrived()
        samples = []
        for i, (own, length) in enumerate(zip(queries, lengths, strict=True)):
            rows = torch.empty(num_layers, num_heads, len(own), length)
            for layer in range(num_layers):
                pairs = slice(i * num_heads, (i + 1) * num_heads)
                rows[layer] = downloads[layer][pairs, : len(own), padded_length - length :]
            samples.append(rows)
        return samples

    return collect


def _to_main_memory(layer: int, rows: Tensor) -> Tensor:
    """Probabilities of one layer on their way to the CPU: the GPU never holds those of all layers."""
    return download(rows.exp())


def _split_logits(logits: Tensor, tokens: Tokens, semantics: Semantics) -> list[Tensor]:
    rows = label_rows(logits, tokens.labels, semantics.logit_shift).float().cpu()
    counts = (tokens.labels[:, semantics.logit_shift :] != IGNORED).sum(dim=1).tolist()
    # A slice would keep the storage of the whole batch alive in the replay memory.
    return [part.clone() for part in torch.split(rows, counts)]


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
