"""The processes of a trial: one on its own, or several that share a model through `torch.distributed`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seekr_tune.config import TrainingConfig
from seekr_tune.errors import StudyError
from seekr_tune.sequence.workers import SingleProcess, Workers

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedWorkers:
    """The ranks of the process group that is initialised; gradients are averaged by `DistributedDataParallel`."""

    device: torch.device

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def world_size(self) -> int:
        return dist.get_world_size()

    def wrap(self, model: nn.Module) -> nn.Module:
        on_gpu = self.device.type == "cuda"
        return DistributedDataParallel(model, device_ids=[self.device] if on_gpu else None)

    def accumulate(self, model: nn.Module) -> AbstractContextManager[object]:
        if isinstance(model, DistributedDataParallel):
            return cast(AbstractContextManager[object], model.no_sync())
        return nullcontext()

    def sum(self, tensor: Tensor) -> Tensor:
        total = tensor.detach().to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(tensor.device)

    def gather(self, value: T) -> list[T]:
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered

    def broadcast(self, make: Callable[[], T]) -> T:
        # An error of rank 0 travels too: the other ranks would wait for a result that never comes.
        made: list[Any] = [None, None]
        if self.rank == 0:
            try:
                made[0] = make()
            except Exception as error:
                made[1] = error
        dist.broadcast_object_list(made, src=0)
        if made[1] is not None:
            raise made[1]
        return cast(T, made[0])


def local_workers(training: TrainingConfig) -> SingleProcess:
    """This process alone, with the threads and the device that the experiment gives to one worker.

    Raises:
        StudyError: a GPU is asked for, and there is none.
    """
    _use_threads(training)
    return SingleProcess(_local_device(training))


def group_workers(training: TrainingConfig, device: torch.device) -> Workers:
    """This process as one rank of a worker group whose process group is initialised."""
    _use_threads(training)
    return DistributedWorkers(device) if dist.get_world_size() > 1 else SingleProcess(device)


def backend_of(training: TrainingConfig) -> str:
    """The collectives of a worker group: NCCL needs a whole GPU for each rank, Gloo takes the rest."""
    return "nccl" if training.resources_per_worker.get("GPU", 0) >= 1 else "gloo"


def _local_device(training: TrainingConfig) -> torch.device:
    if training.resources_per_worker.get("GPU", 0) <= 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise StudyError("training.resources_per_worker asks for a GPU, but torch sees none here; drop GPU from it")
    share = training.resources_per_worker["GPU"]
    if share < 1:  # Ray only counts: without a cap, one greedy trial would take its neighbours down with it
        torch.cuda.set_per_process_memory_fraction(share, 0)
    return torch.device("cuda", 0)


def _use_threads(training: TrainingConfig) -> None:
    """As many threads as CPUs were asked for, in a study and outside: the numbers may depend on it."""
    torch.set_num_threads(max(1, int(training.resources_per_worker.get("CPU", 1))))
