"""Which rank learns which samples of a global batch, and how their teacher signals get there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from seekr_tune.data.collate import EncodedExample, padded_length
from seekr_tune.loop.schedule import Step
from seekr_tune.methods.memory import ReplayMemory, ReplaySample, TeacherSignals
from seekr_tune.methods.transfer import Uploads
from seekr_tune.methods.workers import Workers

Signals = Callable[[], Mapping[str, Tensor]]
"""Waits for tensors on the device."""
JoinSignals = Callable[[Sequence[ReplaySample], int, bool], Mapping[str, Tensor]]
"""`Method.batch_signals`."""


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass of one rank.

    Attributes:
        items: positions within the step's global batch.
        weight: 1, or 0 for a rank that has nothing left but must make the same calls as the others.
    """

    items: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class StepBatch:
    """The global batch of one step, and what of it this rank learns.

    Attributes:
        examples: of the global batch.
        samples: the stored samples that these are; None in a new-task step.
        parts: this rank's forward passes.
        signals: for each of them what waits for what the method keeps beside its samples; None where it keeps nothing.
    """

    examples: tuple[EncodedExample, ...]
    samples: tuple[ReplaySample, ...] | None
    parts: tuple[MicroBatch, ...]
    signals: tuple[Signals | None, ...]


@dataclass(frozen=True)
class Batches:
    """Where the batches of a stage's steps come from.

    Attributes:
        examples: training samples of the stage.
        memory: samples of earlier tasks.
        micro_batch_size: most samples of a forward pass; None: this rank's whole share.
        pad_to_multiple_of: of the length of a padded batch.
        sorts: samples of a step may change places, so that those of similar length are padded together.
        join: makes the signals of a micro-batch of replayed samples; None where the method keeps none.
        workers: the processes that share the work.
        uploads: to this rank's device.
    """

    examples: Sequence[EncodedExample]
    memory: ReplayMemory
    micro_batch_size: int | None
    pad_to_multiple_of: int
    sorts: bool
    join: JoinSignals | None
    workers: Workers
    uploads: Uploads

    def begin(self, step: Step) -> StepBatch:
        """The batch of a step, its teacher signals on their way; all ranks must call this, step by step."""
        samples = tuple(self.memory[i] for i in step.samples) if step.kind == "replay" else None
        examples = tuple(map(_as_example, samples) if samples else (self.examples[i] for i in step.samples))
        if self.sorts and (self.micro_batch_size or self.workers.world_size > 1):
            order = by_length([len(example.input_ids) for example in examples], self.workers.world_size)
            examples = tuple(examples[i] for i in order)
            samples = tuple(samples[i] for i in order) if samples else None
        parts = tuple(micro_batches(len(examples), self.micro_batch_size, self.workers))
        signals: tuple[Signals | None, ...] = (None,) * len(parts)
        if samples and self.join is not None:
            here = with_signals(samples, self.workers)
            signals = tuple(self._start(part, here, self.join) for part in parts)
        return StepBatch(examples, samples, parts, signals)

    def _start(self, part: MicroBatch, samples: Sequence[ReplaySample], join: JoinSignals) -> Signals | None:
        if part.weight == 0:  # a rank without samples has no signals either: its pass counts nothing
            return None
        own = [samples[i] for i in part.items]
        length = padded_length((len(sample.input_ids) for sample in own), self.pad_to_multiple_of)
        return self.uploads.start(partial(join, own, length, self.uploads.pins))


def _as_example(sample: ReplaySample) -> EncodedExample:
    return EncodedExample(tuple(sample.input_ids.tolist()), sample.num_labels)


def share_of(size: int, rank: int, world_size: int) -> range:
    """Positions in a global batch of `size` that one rank learns."""
    share = -(-size // world_size)
    return range(min(size, rank * share), min(size, (rank + 1) * share))


def by_length(lengths: Sequence[int], world_size: int) -> list[int]:
    """An order of a global batch in which neighbours within each rank's share have similar lengths.

    The ranks' shares (`share_of`) are dealt out like cards, longest first: so the ranks' passes are about equally long,
    too, and the largest one comes first.
    """
    longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    sizes = [len(share_of(len(lengths), rank, world_size)) for rank in range(world_size)]
    hands: list[list[int]] = [[] for _ in sizes]
    for item in longest_first:
        # To whoever has the smallest part of its share.
        rank = min((r for r in range(world_size) if len(hands[r]) < sizes[r]), key=lambda r: (len(hands[r]), r))
        hands[rank].append(item)
    return [item for hand in hands for item in hand]


def micro_batches(size: int, micro_batch_size: int | None, workers: Workers) -> Iterator[MicroBatch]:
    """This rank's micro-batches of a global batch; every rank gets the same number of them."""
    own = share_of(size, workers.rank, workers.world_size)
    largest = len(share_of(size, 0, workers.world_size))
    micro = micro_batch_size or largest
    for start in range(0, largest, micro):
        items = tuple(own[start : start + micro])
        yield MicroBatch(items, 1.0) if items else MicroBatch((0,), 0.0)


def with_signals(samples: Sequence[ReplaySample], workers: Workers) -> list[ReplaySample]:
    """A global batch of the memory in which the samples of this rank's share have their teacher signals.

    Every rank keeps the signals of some samples and sends those that others need now; all ranks must call this.
    """
    if workers.world_size == 1:
        return list(samples)
    parcels = []
    for rank in range(workers.world_size):
        wanted = [(i, samples[i].teacher) for i in share_of(len(samples), rank, workers.world_size)]
        named = [(i, teacher.tensors()) for i, teacher in wanted if teacher is not None]
        parcels.append({f"{i}/{name}": tensor for i, tensors in named for name, tensor in tensors.items()})
    received: dict[int, dict[str, Tensor]] = {}
    for parcel in workers.exchange(parcels):
        for key, tensor in parcel.items():
            item, _, name = key.partition("/")
            received.setdefault(int(item), {})[name] = tensor
    return [
        replace(sample, teacher=TeacherSignals.from_tensors(received[i]) if i in received else None)
        for i, sample in enumerate(samples)
    ]
