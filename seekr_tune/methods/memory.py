"""The replay memory: a few samples of each old task, and what the model said about them when it knew them best.

Of the teacher's logits only the rows that distillation reads are kept, of its attention only the selected heads at the
chosen query rows over the keys that they see. Positions are counted from the end of the sample (-1 is the last token),
so they hold whatever the padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seekr_tune.methods.storage import Kept


@dataclass(frozen=True)
class TeacherSignals:
    """What the teacher said about one sample: the bulk of a replay memory.

    Attributes:
        logits: rows for the label tokens; None where logits are not distilled.
        rows: attention probabilities of the selected heads, layer by layer; None where no attention is distilled.
    """

    logits: Kept | None
    rows: Kept | None

    def rows_of(self, heads: Mapping[int, tuple[int, ...]], layer: int) -> Kept:
        """Rows of one layer.

        Args:
            heads: of the sample, by layer.
        """
        assert self.rows is not None, "attention is distilled, but some samples were stored without it"
        start = sum(len(own) for other, own in heads.items() if other < layer)
        own = slice(start, start + len(heads[layer]))
        return Kept(self.rows.values[own], None if self.rows.places is None else self.rows.places[own])

    def tensors(self) -> dict[str, Tensor]:
        """The signals under names: `logits`, `rows`, and with `/places` what belongs to a compact form."""
        kept = {"logits": self.logits, "rows": self.rows}
        return {key: own for name, one in kept.items() if one is not None for key, own in one.tensors(name).items()}

    @classmethod
    def from_tensors(cls, named: Mapping[str, Tensor]) -> TeacherSignals:
        """The inverse of `tensors`."""

        def kept(name: str) -> Kept | None:
            return Kept(named[name], named.get(f"{name}/places")) if name in named else None

        return cls(kept("logits"), kept("rows"))


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
