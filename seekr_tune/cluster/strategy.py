"""The processes of a trial: one on its own, or several that share a model through `torch.distributed`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from seekr_tune.config import Config, ModelConfig, TrainingConfig
from seekr_tune.errors import ModelError, StudyError
from seekr_tune.methods.workers import SingleProcess, Workers, autocast

T = TypeVar("T")


@dataclass(frozen=True)
class GroupWorkers:
    """The ranks of the process group that is initialised, and how they talk.

    Attributes:
        device: where this rank computes, and where its collectives take tensors from.
        compute_dtype: precision of forward and backward passes; None: that of the weights.
    """

    device: torch.device
    compute_dtype: torch.dtype | None = None

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def world_size(self) -> int:
        return dist.get_world_size()

    def sum(self, tensor: Tensor) -> Tensor:
        total = tensor.detach().to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(tensor.device)

    def gather(self, value: T) -> list[T]:
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered

    def exchange(self, parcels: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
        packed = [_packed(parcel) for parcel in parcels]
        sizes = torch.tensor([len(parcel) for parcel in packed], device=self.device)
        coming = torch.empty_like(sizes)
        dist.all_to_all_single(coming, sizes)
        received = torch.empty(int(coming.sum()), dtype=torch.uint8, device=self.device)
        sent = torch.cat(packed).to(self.device)
        dist.all_to_all_single(received, sent, coming.tolist(), sizes.tolist())
        return [_unpacked(parcel) for parcel in torch.split(received.cpu(), coming.tolist())]

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


@dataclass(frozen=True)
class DDPWorkers(GroupWorkers):
    """Every rank holds the whole model; `DistributedDataParallel` averages gradients."""

    def wrap(self, model: nn.Module) -> nn.Module:
        on_gpu = self.device.type == "cuda"
        devices = [self.device] if on_gpu else None
        # Gradients then live in the buckets they are reduced in: one copy of them, not two.
        return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)

    def accumulate(self, model: nn.Module) -> AbstractContextManager[object]:
        assert isinstance(model, DistributedDataParallel), "not the module that `wrap` returned"
        return cast(AbstractContextManager[object], model.no_sync())

    def precision(self) -> AbstractContextManager[object]:
        return autocast(self.device, self.compute_dtype)

    def whole(self, model: nn.Module) -> AbstractContextManager[object]:
        return nullcontext()


@dataclass(frozen=True)
class FSDPWorkers(GroupWorkers):
    """Weights, gradients and moments are split over the ranks (FSDP2); a layer is whole only while it computes.

    `wrap` shards the model in place and returns it. Its parameters are this rank's shards (DTensors) from then on,
    whenever no pass is under way and no `whole` is open.
    """

    def wrap(self, model: nn.Module) -> nn.Module:
        # The default mesh would be on the machine's accelerator, also for workers that were given CPUs only.
        mesh = init_device_mesh(self.device.type, (self.world_size,))
        policy = MixedPrecisionPolicy(param_dtype=self.compute_dtype, reduce_dtype=torch.float32)
        # Left to itself FSDP keeps the root's own weights whole until a backward pass, so after a pass without one an
        # optimizer or a checkpoint would be handed the copies in place of the shards.
        for part in (*_layers(model), model):
            fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        return model

    def accumulate(self, model: nn.Module) -> AbstractContextManager[object]:
        # Reduced all the same: gradients that wait for their reduction would be whole, in float32, on every rank.
        return nullcontext()

    def precision(self) -> AbstractContextManager[object]:
        return nullcontext()  # the policy of `wrap` casts weights and inputs

    @contextmanager
    def whole(self, model: nn.Module) -> Iterator[None]:
        assert isinstance(model, FSDPModule), "not the module that `wrap` returned"
        # PEFT generates with the model inside the root. Were a layer the first module that runs, FSDP would take it
        # for the root; there is no public call that settles this.
        model._get_fsdp_state()._lazy_init()
        parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
        model.set_reshard_after_forward(False)
        model.set_reshard_after_backward(False)
        for part in parts:
            part.unshard()
        try:
            yield
        finally:
            model.set_reshard_after_forward(True)
            model.set_reshard_after_backward(True)
            for part in parts:
                part.reshard()


def local_workers(config: Config) -> SingleProcess:
    """This process alone, with the threads and the device that the experiment gives to one worker.

    Raises:
        StudyError: a GPU is asked for, and there is none.
    """
    _use_threads(config.training)
    return SingleProcess(_local_device(config.training), _compute_dtype(config.model))


def group_workers(config: Config, device: torch.device) -> Workers:
    """This process as one rank of the process group that is initialised, however many ranks it has by now."""
    _use_threads(config.training)
    dtype = _compute_dtype(config.model)
    if dist.get_world_size() == 1:
        return SingleProcess(device, dtype)
    return FSDPWorkers(device, dtype) if config.training.parallelism == "fsdp" else DDPWorkers(device, dtype)


def backend_of(training: TrainingConfig) -> str:
    """The collectives of a worker group: NCCL needs a whole GPU for each rank, Gloo takes the rest."""
    return "nccl" if training.resources_per_worker.get("GPU", 0) >= 1 else "gloo"


def _packed(parcel: Mapping[str, Tensor]) -> Tensor:
    """Named tensors as one tensor of bytes."""
    if not parcel:
        return torch.empty(0, dtype=torch.uint8)
    # Clones: safetensors refuses views that share memory.
    own = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in parcel.items()}
    return torch.frombuffer(bytearray(save(own)), dtype=torch.uint8)


def _unpacked(parcel: Tensor) -> dict[str, Tensor]:
    return load(parcel.numpy().tobytes()) if len(parcel) else {}


def _layers(model: nn.Module) -> list[nn.Module]:
    """The decoder layers, also below adapters: what transformers itself never splits over devices."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ModelError(
            f"training.strategy 'fsdp' cannot split {type(model).__name__}: transformers does not name its layers; "
            "set training.strategy to ddp"
        )
    return layers


def _compute_dtype(model: ModelConfig) -> torch.dtype | None:
    """Precision of forward and backward passes, or None where the weights have it already."""
    return None if model.compute_dtype in (None, model.dtype) else getattr(torch, model.compute_dtype)


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
