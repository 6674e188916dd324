"""Which rank learns which samples of a global batch, and how their teacher signals get there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from seekr_tune.method.memory import ReplaySample, TeacherSignals
from seekr_tune.sequence.workers import Workers


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass of one rank.

    Attributes:
        items: positions within the step's global batch.
        weight: 1, or 0 for a rank that has nothing left but must make the same calls as the others.
    """

    items: tuple[int, ...]
    weight: float


def share_of(size: int, rank: int, world_size: int) -> range:
    """Positions in a global batch of `size` that one rank learns."""
    share = -(-size // world_size)
    return range(min(size, rank * share), min(size, (rank + 1) * share))


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
