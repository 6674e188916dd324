"""What the continual loop asks of the processes it runs in: the seam between `sequence` and `training`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Workers(Protocol):
    """A group of equal processes that train one model.

    Every rank makes the same calls in the same order. Gradients of a wrapped model are AVERAGED over ranks, so a
    loss that is a sum over the rank's share is multiplied by `world_size` before `backward`.
    """

    @property
    def rank(self) -> int:
        """Index of this process, 0 .. world_size - 1."""

    @property
    def world_size(self) -> int:
        """Number of processes."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is called in training; its parameters are those of `model`."""

    def accumulate(self, model: nn.Module) -> AbstractContextManager[object]:
        """Forward and backward passes inside do not reduce gradients over ranks."""

    def sum(self, tensor: Tensor) -> Tensor:
        """Element-wise sum over ranks, on every rank."""

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in rank order, on every rank."""

    def broadcast(self, make: Callable[[], T]) -> T:
        """Run `make` on rank 0 only; every rank gets its result."""


@dataclass(frozen=True)
class SingleProcess:
    """The group of one: no communication at all."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world_size: int = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def accumulate(self, model: nn.Module) -> AbstractContextManager[object]:
        return nullcontext()

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor

    def gather(self, value: T) -> list[T]:
        return [value]

    def broadcast(self, make: Callable[[], T]) -> T:
        return make()
