"""The replay memory: a few samples of each old task, and what the model said about them when it knew them best.

Of the teacher's logits only the rows that distillation reads are kept, of its attention only the selected heads at the
chosen query rows over the sample's own keys. Positions are counted from the end of the sample (-1 is the last token),
so they hold whatever the padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from seekr_tune.method.attention import RowRequest
from seekr_tune.method.transfer import Uploads, pinned


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
        arriving: waits for `probabilities`.
    """

    request: RowRequest
    valid: Tensor
    arriving: Callable[[], Tensor]

    @property
    def probabilities(self) -> Tensor:
        """Teacher attention, `[pairs, queries, keys]`, aligned to the right as the batch is."""
        return self.arriving()


def row_targets(
    samples: Sequence[ReplaySample], padded_length: int, device: torch.device | None = None
) -> dict[int, RowTargets]:
    """Teacher rows of a batch of samples by layer, for a batch that is padded on the left to `padded_length`.

    Samples of different tasks have different heads and layers; a layer appears if any sample selected it.

    Args:
        device: where they are wanted (default: CPU); on a GPU the probabilities arrive while it works.
    """
    device = device or torch.device("cpu")
    own, own_valid = _query_positions(samples, padded_length)
    layers = sorted({layer for sample in samples for layer in sample.heads})
    pairs = {layer: [(i, head) for i, s in enumerate(samples) for head in s.heads.get(layer, ())] for layer in layers}
    # One copy for all layers: each small one would take as long.
    packed = torch.tensor([pair for layer in layers for pair in pairs[layer]], dtype=torch.long).to(device)
    queries, valid = own.to(device), own_valid.to(device)
    uploads = Uploads(device)
    targets: dict[int, RowTargets] = {}
    start = 0
    for layer in layers:
        batch_index, heads = packed[start : start + len(pairs[layer])].unbind(dim=1)
        width = max(len(sample.queries) for sample in samples if layer in sample.heads)
        request = RowRequest(batch_index, heads, queries[:, :width].index_select(0, batch_index))
        arriving = uploads.start(partial(_probabilities, layer, samples, padded_length, width, pinned(device)))
        targets[layer] = RowTargets(request, valid[:, :width].index_select(0, batch_index), arriving)
        start += len(pairs[layer])
    uploads.close()
    return targets


def teacher_logits(samples: Sequence[ReplaySample]) -> Tensor:
    """Stored logit rows of a batch, sample after sample, `[label tokens of the batch, vocabulary]`."""
    return torch.cat(_stored_logits(samples))


def logit_targets(samples: Sequence[ReplaySample], device: torch.device) -> tuple[int, Callable[[], Tensor]]:
    """How many stored logit rows a batch has, and what waits for them on a device; to a GPU they go while it works."""
    rows = _stored_logits(samples)
    count = sum(len(own) for own in rows)

    def make() -> Tensor:
        joined = torch.empty(count, rows[0].shape[1], dtype=rows[0].dtype, pin_memory=pinned(device))
        torch.cat(rows, out=joined)
        return joined

    uploads = Uploads(device)
    arriving = uploads.start(make)
    uploads.close()
    return count, arriving


def _stored_logits(samples: Sequence[ReplaySample]) -> list[Tensor]:
    rows = [_teacher(sample).logits for sample in samples]
    assert all(row is not None for row in rows), "logits are distilled, but some samples were stored without them"
    return [row for row in rows if row is not None]


def _query_positions(samples: Sequence[ReplaySample], padded_length: int) -> tuple[Tensor, Tensor]:
    """Query rows of each sample in the padded batch, and which of them are no filling, `[batch, queries]`."""
    widest = max(len(sample.queries) for sample in samples)
    queries = torch.full((len(samples), widest), padded_length - 1)
    valid = torch.zeros(len(samples), widest, dtype=torch.bool)
    for i, sample in enumerate(samples):
        queries[i, : len(sample.queries)] = sample.queries + padded_length
        valid[i, : len(sample.queries)] = True
    return queries, valid


def _probabilities(
    layer: int, samples: Sequence[ReplaySample], padded_length: int, num_queries: int, pin_memory: bool
) -> Tensor:
    chosen = [_teacher(sample).rows[layer] for sample in samples if layer in sample.heads]
    num_pairs = sum(len(rows) for rows in chosen)
    probabilities = torch.empty(num_pairs, num_queries, padded_length, pin_memory=pin_memory)
    start = 0
    for rows in chosen:
        pairs, own, padding = slice(start, start + len(rows)), rows.shape[1], padded_length - rows.shape[2]
        probabilities[pairs, own:] = 0.0
        probabilities[pairs, :own, :padding] = 0.0
        probabilities[pairs, :own, padding:] = rows
        start = pairs.stop
    return probabilities


def _teacher(sample: ReplaySample) -> TeacherSignals:
    assert sample.teacher is not None, "distillation needs samples that were stored with teacher signals"
    return sample.teacher
