"""The replay memory: a few samples of each old task, and what the model said about them when it knew them best.

Of the teacher's logits only the rows that distillation reads are kept, of its attention only the selected heads at the
chosen query rows over the sample's own keys. Positions are counted from the end of the sample (-1 is the last token),
so they hold whatever the padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seekr_tune.method.attention import RowRequest


@dataclass(frozen=True)
class TeacherSignals:
    """What the teacher said about one sample of `length` tokens: the bulk of a replay memory.

    Attributes:
        logits: rows for the label tokens, `[labels, vocabulary]`; None where logits are not distilled.
        rows: attention probabilities by layer, `[selected heads, queries, length]`.
    """

    logits: Tensor | None
    rows: Mapping[int, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """The signals under names: `logits`, `rows/<layer>`."""
        named = {f"rows/{layer}": rows for layer, rows in self.rows.items()}
        return named if self.logits is None else {"logits": self.logits, **named}

    @classmethod
    def from_tensors(cls, named: Mapping[str, Tensor]) -> TeacherSignals:
        """The inverse of `tensors`."""
        rows = {int(name.removeprefix("rows/")): tensor for name, tensor in named.items() if name != "logits"}
        return cls(named.get("logits"), rows)


@dataclass(frozen=True)
class ReplaySample:
    """One stored training sample.

    Attributes:
        task: index of its task in the stream.
        index: its index in the task's train split.
        input_ids: the whole sequence, unpadded, `[length]`.
        num_labels: how many of the last tokens are labels.
        queries: distilled query rows, negative positions from the end, `[queries]`.
        heads: distilled heads by layer; the selection made when the task ended, frozen for this sample.
        shard: rank that holds its signals, modulo the number of workers.
        teacher: the teacher's signals; None where nothing is distilled, and on ranks that do not hold them.
    """

    task: int
    index: int
    input_ids: Tensor
    num_labels: int
    queries: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    heads: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    shard: int = 0
    teacher: TeacherSignals | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors of this sample that are here."""
        signals = {} if self.teacher is None else self.teacher.tensors()
        tensors = [self.input_ids, self.queries, *signals.values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True)
class ReplayMemory:
    """Stored samples in the order in which their tasks were learned. Immutable: `add` returns a new memory."""

    samples: tuple[ReplaySample, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[ReplaySample]:
        return iter(self.samples)

    def __getitem__(self, position: int) -> ReplaySample:
        return self.samples[position]

    def add(self, samples: Sequence[ReplaySample]) -> ReplayMemory:
        """The memory after one more task."""
        return ReplayMemory((*self.samples, *samples))


@dataclass(frozen=True)
class RowTargets:
    """Teacher rows of one layer for a padded batch.

    Attributes:
        request: which rows the student must compute.
        valid: False at queries that only fill up the tensor, `[pairs, queries]`.
        probabilities: teacher attention, `[pairs, queries, keys]`, aligned to the right as the batch is.
    """

    request: RowRequest
    valid: Tensor
    probabilities: Tensor

    def to(self, device: torch.device) -> RowTargets:
        """The same targets on another device."""
        request = RowRequest(*(t.to(device) for t in (self.request.samples, self.request.heads, self.request.queries)))
        return RowTargets(request, self.valid.to(device), self.probabilities.to(device))


def row_targets(samples: Sequence[ReplaySample], padded_length: int) -> dict[int, RowTargets]:
    """Teacher rows of a batch of samples by layer, for a batch that is padded on the left to `padded_length`.

    Samples of different tasks have different heads and layers; a layer appears if any sample selected it.
    """
    layers = sorted({layer for sample in samples for layer in sample.heads})
    return {layer: _layer_targets(layer, samples, padded_length) for layer in layers}


def teacher_logits(samples: Sequence[ReplaySample]) -> Tensor:
    """Stored logit rows of a batch, sample after sample, `[label tokens of the batch, vocabulary]`."""
    rows = [_teacher(sample).logits for sample in samples]
    assert all(row is not None for row in rows), "logits are distilled, but some samples were stored without them"
    return torch.cat([row for row in rows if row is not None])


def _layer_targets(layer: int, samples: Sequence[ReplaySample], padded_length: int) -> RowTargets:
    chosen = [(i, sample) for i, sample in enumerate(samples) if layer in sample.heads]
    num_queries = max(len(sample.queries) for _, sample in chosen)
    num_pairs = sum(len(sample.heads[layer]) for _, sample in chosen)
    batch_index = torch.empty(num_pairs, dtype=torch.long)
    heads = torch.empty(num_pairs, dtype=torch.long)
    queries = torch.full((num_pairs, num_queries), padded_length - 1)
    valid = torch.zeros(num_pairs, num_queries, dtype=torch.bool)
    probabilities = torch.zeros(num_pairs, num_queries, padded_length)
    start = 0
    for i, sample in chosen:
        rows = _teacher(sample).rows[layer]
        pairs, own = slice(start, start + rows.shape[0]), slice(0, rows.shape[1])
        batch_index[pairs] = i
        heads[pairs] = torch.tensor(sample.heads[layer])
        queries[pairs, own] = sample.queries + padded_length
        valid[pairs, own] = True
        probabilities[pairs, own, padded_length - rows.shape[2] :] = rows
        start = pairs.stop
    return RowTargets(RowRequest(batch_index, heads, queries), valid, probabilities)


def _teacher(sample: ReplaySample) -> TeacherSignals:
    assert sample.teacher is not None, "distillation needs samples that were stored with teacher signals"
    return sample.teacher
