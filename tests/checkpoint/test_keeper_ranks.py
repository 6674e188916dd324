"""What one strategy and number of workers saved, every other restores; and ranks fail together."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from seekr_tune.checkpoint import keeper as keeper_module
from seekr_tune.checkpoint import writing
from seekr_tune.checkpoint.keeper import CheckpointKeeper
from seekr_tune.checkpoint.state import LearnerState, Progress
from seekr_tune.cluster.strategy import DDPWorkers, FSDPWorkers
from seekr_tune.errors import CheckpointError
from seekr_tune.methods.workers import SingleProcess, Workers
from tests.waiting import PATIENCE

from ..cluster.ranks import run_ranks
from .saved import (
    Net,
    assert_same_state,
    assert_same_tensors,
    checkpoints_in,
    gradients,
    held_by,
    moments,
    parameters_of,
    progress_of,
    stream_state,
)

CPU = torch.device("cpu")
INPUTS = torch.linspace(-1, 1, 12).view(4, 3)
ROUNDING = 1e-6
SAVED = {"single": 1, "ddp-2": 2, "fsdp-2": 2, "fsdp-4": 4}
"""What is saved, and by how many ranks."""
SHAPES = {name: parameter.shape for name, parameter in Net(1).named_parameters()}
Found = dict[str, Any]


def workers_of(strategy: str) -> Workers:
    if strategy == "single":
        return SingleProcess()
    return DDPWorkers(CPU) if strategy == "ddp" else FSDPWorkers(CPU)


def net_of(strategy: str, seed: int) -> Net:
    """The net as a strategy has it on this rank."""
    net = Net(seed)
    if strategy == "fsdp":
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for part in (net.wide, net.narrow, net.single, net):
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
    return net


def like(parameter: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor laid out as torch lays it out; a scalar is everywhere."""
    if isinstance(parameter, DTensor) and whole.dim():
        return distribute_tensor(whole, parameter.device_mesh, parameter.placements)
    return whole


def learner_of(net: nn.Module, rank: int) -> LearnerState:
    """Sharded parameters have sharded gradients, all others a gradient of each rank's own."""
    parameters = dict(net.named_parameters())
    is_sharded = isinstance(parameters["wide.weight"], DTensor)
    whole = {**moments(SHAPES), **gradients(SHAPES, rank=0 if is_sharded else rank)}
    laid_out = {name: like(parameters[name.rpartition("/")[2]], tensor) for name, tensor in whole.items()}
    return LearnerState(laid_out, pending_steps=3, updates=11)


def save_all(directory: Path, strategy: str) -> None:
    """A stage with the weights of one net, and steps with those of another."""
    workers = workers_of(strategy)
    state = stream_state(2)
    memory = held_by(state.memory, workers.rank, workers.world_size)
    keeper = CheckpointKeeper(directory, workers, kept=2)
    net = net_of(strategy, 1)
    keeper.save_stage(replace(state, memory=memory), parameters_of(net), learner_of(net, workers.rank))
    net = net_of(strategy, 2)
    progress = Progress(progress_of(Net(2), 3).steps, learner_of(net, workers.rank))
    keeper.save_steps(2, progress, parameters_of(net))
    keeper.close()


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def model_found(net: nn.Module, learner: LearnerState) -> Found:
    parameters = dict(net.named_parameters())
    for name, tensor in learner.tensors.items():
        parameter = parameters[name.rpartition("/")[2]]
        if isinstance(parameter, DTensor) and tensor.dim():
            assert isinstance(tensor, DTensor), name
            assert (tensor.device_mesh, tensor.placements) == (parameter.device_mesh, parameter.placements)
            assert tensor.to_local().shape == parameter.to_local().shape
            assert (tensor.shape, tensor.stride()) == (parameter.shape, parameter.stride())
        else:
            assert not isinstance(tensor, DTensor), name
    return {
        "weights": {name: whole(parameter) for name, parameter in parameters.items()},
        "outputs": net(INPUTS).detach(),
        "learner": {name: whole(tensor) for name, tensor in learner.tensors.items()},
        "counters": (learner.pending_steps, learner.updates),
    }


def read_all(directory: Path, strategy: str) -> Found:
    """What this rank finds: the stage, and then the steps."""
    workers, net = workers_of(strategy), net_of(strategy, 9)
    keeper = CheckpointKeeper(directory, workers, kept=2)
    found = keeper.restore_stage(parameters_of(net))
    assert found is not None
    stage = model_found(net, found.learner)
    progress = keeper.restore_steps(parameters_of(net))
    assert progress is not None
    keeper.close()
    return {
        "stage": stage,
        "state": found.state,
        "steps": model_found(net, progress.learner),
        "records": progress.steps,
        "unfinished": found.unfinished,
    }


def read_each(base: Path, saved: list[str]) -> dict[tuple[str, str], Found]:
    return {(name, strategy): read_all(base / name, strategy) for name, strategy in product(saved, ("ddp", "fsdp"))}


def on_two(base: Path) -> dict[Any, Any]:
    for strategy in ("ddp", "fsdp"):
        save_all(base / f"{strategy}-2", strategy)
    failures = {name: fail(base / name) for name, fail in FAILURES.items()}
    return read_each(base, ["single", "ddp-2", "fsdp-2"]) | failures


def on_four(base: Path) -> dict[Any, Any]:
    save_all(base / "fsdp-4", "fsdp")
    return read_each(base, list(SAVED))


def message_of(save: Callable[[], None]) -> str:
    with pytest.raises(CheckpointError) as caught:
        save()
    return str(caught.value)


def second_rank_cannot_write(directory: Path) -> list[Any]:
    """Rank 1 fails in the background; both ranks are told at the next save."""
    workers, net = workers_of("ddp"), Net(1)
    keeper = CheckpointKeeper(directory, workers, kept=2)
    keeper.save_stage(stream_state(1), parameters_of(net), learner_of(net, workers.rank))
    with pytest.MonkeyPatch.context() as patch:
        if workers.rank == 1:

            def full(path: Path) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr(writing, "flush", full)
        keeper.save_steps(1, progress_of(net, 3), parameters_of(net))
        message = message_of(lambda: keeper.save_steps(1, progress_of(net, 5), parameters_of(net)))
    return [message, checkpoints_in(directory)]


def second_rank_never_writes(directory: Path) -> list[Any]:
    """Rank 1 hangs for ever; rank 0 gives up."""
    workers, net = workers_of("fsdp"), net_of("fsdp", 1)
    keeper = CheckpointKeeper(directory, workers, kept=2)
    keeper.save_stage(stream_state(1), parameters_of(net), learner_of(net, workers.rank))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "PATIENCE_SECONDS", 0.3)
        if workers.rank == 1:
            patch.setattr(keeper_module, "write_share", lambda place, rank, files: None)
        message = message_of(
            lambda: keeper.save_stage(stream_state(2), parameters_of(net), learner_of(net, workers.rank))
        )
    dist.barrier()
    return [message, checkpoints_in(directory)]


def second_rank_writes_for_an_old_launch(directory: Path) -> list[Any]:
    """Both ranks still write when a new launch takes the directory over."""
    workers, net = workers_of("ddp"), Net(1)
    old = CheckpointKeeper(directory, workers, kept=2)
    old.save_stage(stream_state(1), parameters_of(net), learner_of(net, workers.rank))
    gate, real = threading.Event(), writing.write_share

    def late(place: Path, rank: int, files: Mapping[str, Callable[[Path], None]]) -> None:
        assert rank == 0 or gate.wait(PATIENCE)
        real(place, rank, files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper_module, "write_share", late)
        old.save_steps(1, progress_of(net, 3), parameters_of(net))
        new = CheckpointKeeper(directory, workers, kept=2)
        dist.barrier()
        gate.set()
        message = message_of(lambda: old.save_steps(1, progress_of(net, 5), parameters_of(net)))
    appeared = checkpoints_in(directory)
    dist.barrier()
    new.save_stage(stream_state(2), parameters_of(net), learner_of(net, workers.rank))
    return [message, appeared, checkpoints_in(directory)]


def first_rank_finds_no_base(directory: Path) -> list[Any]:
    """What steps build on is gone on rank 0; the other rank must not wait for it."""
    workers, net = workers_of("ddp"), Net(1)
    keeper = CheckpointKeeper(directory, workers, kept=2)
    keeper.save_stage(stream_state(1), parameters_of(net), learner_of(net, workers.rank))
    if workers.rank == 0:
        (directory / "task-0001" / "manifest.json").unlink()
    return [message_of(lambda: keeper.save_steps(1, progress_of(net, 3), parameters_of(net)))]


def no_rank_may_write(directory: Path) -> list[Any]:
    """Rank 0 cannot even begin."""
    workers = workers_of("ddp")
    if workers.rank == 0:
        directory.write_text("no directory")
    dist.barrier()
    with pytest.raises(OSError) as caught:
        CheckpointKeeper(directory, workers, kept=2)
    return [type(caught.value).__name__]


FAILURES = {
    fail.__name__: fail
    for fail in (
        second_rank_cannot_write,
        second_rank_never_writes,
        second_rank_writes_for_an_old_launch,
        first_rank_finds_no_base,
        no_rank_may_write,
    )
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture(scope="module")
def on_ranks(base: Path) -> dict[int, list[dict[Any, Any]]]:
    """What every rank found, by the number of ranks."""
    save_all(base / "single", "single")
    found = {}
    for function, world_size in ((on_two, 2), (on_four, 4)):
        directory = base / f"group-{world_size}"
        directory.mkdir()
        found[world_size] = run_ranks(partial(function, base), world_size, directory)
    found[1] = [{(saved, "single"): read_all(base / saved, "single") for saved in SAVED}]
    return found


READINGS = [
    *((saved, "single", 1) for saved in SAVED),
    *product(["single", "ddp-2", "fsdp-2"], ["ddp", "fsdp"], [2]),
    *product(SAVED, ["ddp", "fsdp"], [4]),
]
every_reading = pytest.mark.parametrize(
    ("saved", "strategy", "world_size"), READINGS, ids=[f"{s}-as-{t}-{w}" for s, t, w in READINGS]
)


@every_reading
def test_every_layout_restores_what_any_other_saved(
    on_ranks: dict[int, list[dict[Any, Found]]], saved: str, strategy: str, world_size: int
) -> None:
    for found in (rank[saved, strategy] for rank in on_ranks[world_size]):
        for part, seed in (("stage", 1), ("steps", 2)):
            net, model = Net(seed), found[part]
            assert_same_tensors(model["weights"], parameters_of(net))
            torch.testing.assert_close(model["outputs"], net(INPUTS).detach(), atol=ROUNDING, rtol=0)
            restored = {name: tensor for name, tensor in model["learner"].items() if name.startswith("moments/")}
            assert_same_tensors(restored, moments(SHAPES))
            assert model["counters"] == (3, 11)
        assert found["records"] == found["unfinished"] == progress_of(Net(2), 3).steps


@every_reading
def test_waiting_gradients_are_the_ranks_own_or_the_mean_of_all(
    on_ranks: dict[int, list[dict[Any, Found]]], saved: str, strategy: str, world_size: int
) -> None:
    first, second = gradients(SHAPES, rank=0), gradients(SHAPES, rank=1)
    for rank, found in enumerate(on_ranks[world_size]):
        if saved != "ddp-2":
            expected = first
        elif (strategy, world_size) == ("ddp", 2):
            expected = (first, second)[rank]
        else:
            expected = {name: (first[name] + second[name]) / 2 for name in first}
        for part in ("stage", "steps"):
            learner = found[saved, strategy][part]["learner"]
            assert_same_tensors({name: t for name, t in learner.items() if name.startswith("gradient/")}, expected)


@every_reading
def test_every_rank_has_the_whole_state_and_the_signals_of_its_own_samples(
    on_ranks: dict[int, list[dict[Any, Found]]], saved: str, strategy: str, world_size: int
) -> None:
    state = stream_state(2)
    for rank, found in enumerate(on_ranks[world_size]):
        own = replace(state, memory=held_by(state.memory, rank, world_size))
        assert_same_state(found[saved, strategy]["state"], own)


@pytest.mark.usefixtures("on_ranks")
@pytest.mark.parametrize("name", ["task-0002", "task-0002-step-000003"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_a_rank_writes_only_the_rows_that_it_holds(base: Path, world_size: int, name: str) -> None:
    for kind, tensors in (("weights", parameters_of(Net(1))), ("learner", moments(SHAPES) | gradients(SHAPES))):
        paths = sorted((base / f"fsdp-{world_size}" / name).glob(f"{kind}-*"))
        assert [path.name for path in paths] == [
            f"{kind}-{rank:02d}-of-{world_size:02d}.safetensors" for rank in range(world_size)
        ]
        for rank, path in enumerate(paths):
            with safe_open(path, framework="pt") as file:
                rows = {key: file.get_slice(key).get_shape() for key in file.keys()}
            for key, tensor in tensors.items():
                if tensor.dim() == 0:
                    assert (key in rows) == (rank == 0)
                else:
                    chunks = [len(chunk) for chunk in torch.empty(tensor.shape).chunk(world_size)]
                    assert rows[key] == [(chunks + [0] * world_size)[rank], *tensor.shape[1:]]


@pytest.mark.usefixtures("on_ranks")
def test_ranks_that_hold_the_whole_model_write_it_once(base: Path) -> None:
    stage = {path.name for path in (base / "ddp-2" / "task-0002").iterdir()}
    assert {name for name in stage if name.startswith(("weights", "learner"))} == {
        "weights-00-of-01.safetensors",
        "learner-00-of-01.safetensors",
    }
    for kind in ("gradients", "memory"):
        assert {name for name in stage if name.startswith(kind)} == {
            f"{kind}-00-of-02.safetensors",
            f"{kind}-01-of-02.safetensors",
        }


@pytest.mark.usefixtures("on_ranks")
@pytest.mark.parametrize("name", ["weights-03-of-04", "learner-01-of-04", "memory-02-of-04"])
def test_the_loss_of_one_ranks_file_is_noticed(base: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(base / "fsdp-4" / "task-0002", tmp_path / "task-0002")
    (tmp_path / "task-0002" / f"{name}.safetensors").unlink()
    assert CheckpointKeeper(tmp_path, SingleProcess(), kept=2).restore_stage(parameters_of(Net(9))) is None


def test_an_error_of_one_rank_is_raised_on_all(on_ranks: dict[int, list[dict[Any, Any]]], base: Path) -> None:
    for rank in on_ranks[2]:
        message, appeared = rank["second_rank_cannot_write"]
        assert message == (
            f"{base / 'second_rank_cannot_write' / 'task-0001-step-000003'}: could not be written "
            "(rank 1: [Errno 28] No space left on device)"
        )
        assert appeared == ["task-0001"]


def test_a_rank_that_hangs_is_named_on_all(on_ranks: dict[int, list[dict[Any, Any]]]) -> None:
    for rank in on_ranks[2]:
        message, appeared = rank["second_rank_never_writes"]
        assert message.endswith("task-0002: could not be written (no rank-01.json after 0.3 seconds)")
        assert appeared == ["task-0001"]


def test_a_late_rank_of_an_old_launch_makes_nothing_appear(on_ranks: dict[int, list[dict[Any, Any]]]) -> None:
    for rank in on_ranks[2]:
        message, appeared, later = rank["second_rank_writes_for_an_old_launch"]
        assert "could not be written (" in message and "rank 1: " in message and "another launch took over" in message
        assert appeared == ["task-0001"]
        assert later == ["task-0001", "task-0002"]


def test_steps_without_a_base_are_an_error_on_all(on_ranks: dict[int, list[dict[Any, Any]]]) -> None:
    for rank in on_ranks[2]:
        (message,) = rank["first_rank_finds_no_base"]
        assert "task-0001-step-000003: builds on what cannot be read (" in message and "no such file" in message


def test_a_directory_that_cannot_be_used_is_an_error_on_all(on_ranks: dict[int, list[dict[Any, Any]]]) -> None:
    assert [rank["no_rank_may_write"] for rank in on_ranks[2]] == [["NotADirectoryError"]] * 2
