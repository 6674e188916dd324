"""Everything that is drawn at random, keyed by what it is for.

A draw depends on (seed, purpose, task name, epoch or sample) and on nothing else: not on the rank, the number of
workers, what was drawn before, or the position of the task in the stream. Runs that agree on the key agree on the draw.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from seekr_tune.methods.semantics import Semantics


class Draws(Protocol):
    """Where sample orders, memory samples and query rows come from."""

    def epoch_order(self, task: str, epoch: int, size: int) -> list[int]:
        """Order of `size` training samples in one epoch."""

    def replay_order(self, task: str, epoch: int, size: int) -> list[int]:
        """Order of `size` memory samples in one epoch of learning `task`."""

    def memory_samples(self, task: str, size: int, count: int) -> list[int]:
        """Which `count` of the task's `size` training samples are kept."""

    def query_rows(self, task: str, sample: int, length: int, budget: int | None) -> Tensor:
        """Query rows of one sample, ascending negative positions from its end, int64 `[queries]`."""

    def head_scores(self, task: str, num_layers: int, num_heads: int) -> Tensor:
        """Scores in [0, 1) for the selection of random heads, `[layers, heads]`."""

    def torch_seed(self, task: str, step: int, rank: int) -> int:
        """Seed of torch's own generator (dropout) on one rank in one step of learning `task`."""


@dataclass(frozen=True)
class SeededDraws:
    """Reshuffled epochs, random nested memory, query rows without replacement.

    Attributes:
        seed: of everything.
        memory_draw: which of the seed's random memories; nothing else depends on it.
    """

    seed: int
    memory_draw: int = 0

    def epoch_order(self, task: str, epoch: int, size: int) -> list[int]:
        return _permutation(size, self.seed, "order", task, epoch)

    def replay_order(self, task: str, epoch: int, size: int) -> list[int]:
        return _permutation(size, self.seed, "replay", task, epoch)

    def memory_samples(self, task: str, size: int, count: int) -> list[int]:
        # One permutation for every count: a smaller memory is a prefix of a larger one.
        draw = (self.memory_draw,) if self.memory_draw else ()
        return _permutation(size, self.seed, "memory", task, *draw)[:count]

    def query_rows(self, task: str, sample: int, length: int, budget: int | None) -> Tensor:
        chosen = _permutation(length, self.seed, "queries", task, sample)[:budget]
        return torch.tensor(sorted(chosen)) - length

    def head_scores(self, task: str, num_layers: int, num_heads: int) -> Tensor:
        scores = _generator(self.seed, "heads", task).random((num_layers, num_heads), dtype=np.float32)
        return torch.from_numpy(scores)

    def torch_seed(self, task: str, step: int, rank: int) -> int:
        return int(_generator(self.seed, "torch", task, step, rank).integers(2**63))


@dataclass(frozen=True)
class FixedDraws(SeededDraws):
    """As the release draws: one order for all epochs, the first rows as memory, short samples' queries repeat."""

    def epoch_order(self, task: str, epoch: int, size: int) -> list[int]:
        return super().epoch_order(task, 0, size)

    def replay_order(self, task: str, epoch: int, size: int) -> list[int]:
        return super().replay_order(task, 0, size)

    def memory_samples(self, task: str, size: int, count: int) -> list[int]:
        return list(range(count))

    def query_rows(self, task: str, sample: int, length: int, budget: int | None) -> Tensor:
        if budget is None or length >= budget:
            return super().query_rows(task, sample, length, budget)
        drawn = _generator(self.seed, "queries", task, sample).integers(length, size=budget)
        return torch.from_numpy(np.sort(drawn)) - length


def draws_of(semantics: Semantics, seed: int, memory_draw: int = 0) -> Draws:
    """The draws that belong to a reading of the method."""
    return FixedDraws(seed) if semantics.draws == "fixed" else SeededDraws(seed, memory_draw)


def _permutation(size: int, *key: object) -> list[int]:
    order: list[int] = _generator(*key).permutation(size).tolist()
    return order


def _generator(*key: object) -> np.random.Generator:
    # hashlib, not hash(): Python salts the latter anew in every process.
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
