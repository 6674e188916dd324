"""What the continual loop asks of the processes it runs in: the seam between `loop` and `cluster`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

    @property
    def compute_dtype(self) -> torch.dtype | None:
        """Precision of forward and backward passes; None: that of the weights."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is called in training; its parameters are those of `model` (sharded in place by FSDP)."""

    def accumulate(self, model: nn.Module) -> AbstractContextManager[object]:
        """Gradients of the wrapped model need not be reduced over ranks by backward passes inside: others follow."""

    def precision(self) -> AbstractContextManager[object]:
        """Forward passes inside compute in the precision that the experiment asks for."""

    def whole(self, model: nn.Module) -> AbstractContextManager[object]:
        """Forward passes of `model` inside talk to no other rank, so that ranks may make different numbers of them."""

    def sum(self, tensor: Tensor) -> Tensor:
        """Element-wise sum over ranks, on every rank."""

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in rank order, on every rank."""

    def exchange(self, parcels: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Send `parcels[r]` to rank r; returns what each rank sent here, in rank order, on the CPU."""

    def broadcast(self, make: Callable[[], T]) -> T:
        """Run `make` on rank 0 only; every rank gets its result, or its error."""


@dataclass(frozen=True)
class SingleProcess:
    """The group of one: no communication at all."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    compute_dtype: torch.dtype | None = None
    rank: int = 0
    world_size: int = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def accumulate(self, model: nn.Module) -> AbstractContextManager[object]:
        return nullcontext()

    def precision(self) -> AbstractContextManager[object]:
        return autocast(self.device, self.compute_dtype)

    def whole(self, model: nn.Module) -> AbstractContextManager[object]:
        return nullcontext()

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor

    def gather(self, value: T) -> list[T]:
        return [value]

    def exchange(self, parcels: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
        return [dict(parcel) for parcel in parcels]

    def broadcast(self, make: Callable[[], T]) -> T:
        return make()


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Mixed precision over weights that stay as they are; None computes in the precision of the weights."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
