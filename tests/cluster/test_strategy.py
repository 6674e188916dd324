"""The groups of processes: what they exchange, how often they reduce gradients, and when they are silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from seekr_tune.cluster.strategy import DDPWorkers, FSDPWorkers, group_workers, local_workers
from seekr_tune.errors import ConfigError, ModelError, StudyError
from seekr_tune.methods.workers import SingleProcess

from ..loop.tiny import tiny_config, tiny_model
from .ranks import run_ranks

CPU = torch.device("cpu")
MICRO_BATCHES = torch.arange(4, 4 + 4 * 2 * 6).reshape(4, 2, 6)
"""Token ids of four micro-batches of two samples: two for each of two ranks."""
ROUNDING = 1e-6
"""Largest difference of a gradient entry: two ranks add four float32 numbers in another order than one process."""
FAMILIES = {"llama": 2, "gpt2": 2, "gpt_neox": 2}


def with_adapters(model: Any) -> Any:
    settings = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return get_peft_model(model, settings)


MODELS: dict[str, Callable[[], Any]] = {"plain": tiny_model, "adapters": lambda: with_adapters(tiny_model())}


class Collectives(TorchDispatchMode):
    """Counts the collectives that run inside, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "c10d" in function.namespace:
            self.counts[function.__name__.removesuffix(".default")] += 1
        return function(*args, **(kwargs or {}))


def loss_of(model: nn.Module, ids: Tensor) -> Tensor:
    return model(input_ids=ids, use_cache=False).logits.float().log_softmax(dim=-1).square().sum()


def trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def full(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def greedy(model: Any, ids: Tensor, count: int) -> Tensor:
    with torch.no_grad():
        tokens: Tensor = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=count,
            max_new_tokens=count,
            do_sample=False,
            pad_token_id=1,
            synced_gpus=False,
        )
    return tokens


def sensitivity(model: Any, ids: Tensor) -> Tensor:
    """A gradient inside the model, which leaves no gradient at its parameters."""
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    loss = model(inputs_embeds=embedded, use_cache=False).logits.float().square().sum()
    (gradient,) = torch.autograd.grad(loss, embedded)
    return gradient


# --- what each of two ranks finds ------------------------------------------------------------------------------------


def parcels_from(sender: int) -> list[dict[str, Tensor]]:
    """What one rank sends: tensors of several types and shapes to rank 0, and to rank 1 only if it is rank 1."""
    base = torch.arange(12.0).reshape(3, 4) + sender
    mixed = {
        "4/rows/1": base.T.bfloat16(),
        "4/logits": base[:2],
        "overlaps": base[1:],
        "half": base.half(),
        "ids": torch.tensor([7, sender]),
        "mask": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5 + sender),
        "nothing": torch.empty(0, 4),
    }
    return [mixed, {"one": torch.tensor([sender])} if sender == 1 else {}]


def talking() -> dict[str, Any]:
    workers = DDPWorkers(CPU)

    def fail() -> None:
        raise ConfigError("wrong")

    errors = []
    try:
        workers.broadcast(fail)
    except Exception as error:
        errors.append((type(error), str(error)))
    own = torch.tensor([1.0, 10.0 * workers.rank])
    return {
        "exchange": workers.exchange(parcels_from(workers.rank)),
        "empty": workers.exchange([{}, {}]),
        "errors": errors,
        "broadcast": workers.broadcast(lambda: ("made by", workers.rank)),
        "gather": workers.gather({workers.rank: "text"}),
        "sum": (workers.sum(own), own),
        "groups": [
            type(group_workers(tiny_config(**{"training.workers": 2, "training.strategy": name}), CPU)).__name__
            for name in ("ddp", "fsdp", None)
        ],
    }


def reduced(workers: DDPWorkers | FSDPWorkers, kind: str) -> dict[str, Any]:
    """One step of two micro-batches a rank; gradients, and reductions in each of its passes."""
    model = MODELS[kind]()
    wrapped = workers.wrap(model)
    buckets: list[int] = []
    if isinstance(workers, DDPWorkers):
        # A lambda: DDP compares annotations, and those of this module are strings.
        wrapped.register_comm_hook(buckets, lambda state, bucket: _counted(state, bucket))
    counts = []
    share = 2 * workers.rank
    with Collectives() as seen:
        with workers.accumulate(wrapped):
            loss_of(wrapped, MICRO_BATCHES[share]).backward()
        counts.append(len(buckets) + seen.counts["_reduce_scatter_base_"])
        loss_of(wrapped, MICRO_BATCHES[share + 1]).backward()
        counts.append(len(buckets) + seen.counts["_reduce_scatter_base_"])
    gradients = {name: full(parameter.grad) for name, parameter in trained(model) if parameter.grad is not None}
    return {"gradients": gradients, "reductions": counts, "same module": wrapped is model}


def _counted(buckets: list[int], bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    buckets.append(bucket.index())
    return allreduce_hook(dist.group.WORLD, bucket)


def silent(kind: str) -> dict[str, Any]:
    """A sharded model that is whole: rank 1 makes more passes than rank 0."""
    workers = FSDPWorkers(CPU)
    model = MODELS[kind]()
    wrapped = workers.wrap(model)
    ids = MICRO_BATCHES[0]
    found: dict[str, Any] = {"generated": [], "sensitivity": []}
    for _ in range(2):  # the first time nothing has run yet
        with workers.whole(wrapped):
            with Collectives() as seen:
                for count in range(3, 4 + 2 * workers.rank):
                    found["generated"].append(greedy(model, ids, count))
                    found["sensitivity"].append(sensitivity(model, ids))
        found["collectives"] = dict(seen.counts)
        found["sharded"] = all(isinstance(parameter, DTensor) for parameter in model.parameters())
        found["gradients"] = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
        with Collectives() as seen:
            loss_of(wrapped, MICRO_BATCHES[workers.rank]).backward()
        found["gathered"] = seen.counts["_allgather_base_"]
        found["next step"] = {name: full(p.grad) for name, p in trained(model) if p.grad is not None}
        model.zero_grad()
    return found


def shards() -> dict[str, Any]:
    workers = FSDPWorkers(CPU)
    found: dict[str, Any] = {}
    for family in FAMILIES:
        model = tiny_model(family=family)
        total = sum(parameter.numel() for parameter in model.parameters())
        workers.wrap(model)
        local = sum(p.to_local().numel() for p in model.parameters() if isinstance(p, DTensor))
        with Collectives() as seen, torch.no_grad():
            model(input_ids=MICRO_BATCHES[0], use_cache=False)
        left = [name for name, parameter in model.named_parameters() if not isinstance(parameter, DTensor)]
        found[family] = (total, local, seen.counts["_allgather_base_"], left)
    try:
        workers.wrap(nn.Linear(2, 2))
    except ModelError as error:
        found["no layers"] = str(error)
    return found


def precisions() -> dict[str, Any]:
    found = {}
    for workers in (DDPWorkers(CPU, torch.bfloat16), FSDPWorkers(CPU, torch.bfloat16), FSDPWorkers(CPU)):
        model = tiny_model()
        wrapped = workers.wrap(model)
        with workers.precision():
            logits = wrapped(input_ids=MICRO_BATCHES[0], use_cache=False).logits
        logits.float().sum().backward()
        kinds = {(parameter.dtype, parameter.grad.dtype) for parameter in model.parameters()}
        found[f"{type(workers).__name__} {workers.compute_dtype}"] = (logits.dtype, kinds)
    return found


def everything() -> dict[str, Any]:
    """All of it in one group, for a group is slow to start."""
    return {
        "talking": talking(),
        "ddp": {kind: reduced(DDPWorkers(CPU), kind) for kind in MODELS},
        "fsdp": {kind: reduced(FSDPWorkers(CPU), kind) for kind in MODELS},
        "silent": {kind: silent(kind) for kind in MODELS},
        "shards": shards(),
        "precisions": precisions(),
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_ranks(everything, 2, tmp_path_factory.mktemp("strategy"))


# --- tests -----------------------------------------------------------------------------------------------------------


def test_parcels_arrive_with_names_types_shapes_and_values(ranks: list[dict[str, Any]]) -> None:
    for receiver, found in enumerate(ranks):
        expected = [parcels_from(sender)[receiver] for sender in range(2)]
        received = found["talking"]["exchange"]
        assert [parcel.keys() for parcel in received] == [parcel.keys() for parcel in expected]
        for parcel, sent in zip(received, expected, strict=True):
            for name, tensor in sent.items():
                assert parcel[name].dtype == tensor.dtype and torch.equal(parcel[name], tensor), name
        assert found["talking"]["empty"] == [{}, {}]


def test_an_error_of_rank_0_reaches_every_rank_and_the_group_goes_on(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert found["talking"]["errors"] == [(ConfigError, "wrong")]
        assert found["talking"]["broadcast"] == ("made by", 0)


def test_gathered_values_are_in_rank_order_and_sums_leave_their_input_alone(ranks: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(ranks):
        assert found["talking"]["gather"] == [{0: "text"}, {1: "text"}]
        total, own = found["talking"]["sum"]
        assert total.tolist() == [2.0, 10.0] and own.tolist() == [1.0, 10.0 * rank]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_gradients_of_accumulated_passes_are_averaged_over_ranks(
    ranks: list[dict[str, Any]], strategy: str, kind: str
) -> None:
    model = MODELS[kind]()
    (sum(loss_of(model, ids) for ids in MICRO_BATCHES) / 2).backward()
    expected = {name: parameter.grad for name, parameter in trained(model)}
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    for found in ranks:
        ours = found[strategy][kind]["gradients"]
        assert ours.keys() == expected.keys()
        assert all(float((ours[name] - expected[name]).abs().max()) < ROUNDING * scale for name in ours)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_ddp_reduces_gradients_once_a_step_and_fsdp_in_every_pass(
    ranks: list[dict[str, Any]], strategy: str, kind: str
) -> None:
    # FSDP reduces by layers (and the root's own weights, which adapters leave frozen), DDP all of a small model at once
    by_layers = 3 if kind == "plain" else 2
    expected = [0, 1] if strategy == "ddp" else [by_layers, 2 * by_layers]
    for found in ranks:
        assert found[strategy][kind]["reductions"] == expected
        assert found[strategy][kind]["same module"] is (strategy == "fsdp")


@pytest.mark.parametrize("kind", MODELS)
def test_a_whole_model_makes_uneven_numbers_of_passes_in_silence(ranks: list[dict[str, Any]], kind: str) -> None:
    model = MODELS[kind]()
    expected, gradient = greedy(model, MICRO_BATCHES[0], 5), sensitivity(model, MICRO_BATCHES[0])
    for rank, found in enumerate(ranks):
        seen = found["silent"][kind]
        assert seen["collectives"] == {}
        assert len(seen["generated"]) == 2 * (1 + 2 * rank)
        assert all(torch.equal(ids, expected[:, : ids.shape[1]]) for ids in seen["generated"])
        torch.testing.assert_close(seen["sensitivity"], [gradient] * len(seen["sensitivity"]))


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_that_was_whole_is_sharded_again_and_trains_as_before(ranks: list[dict[str, Any]], kind: str) -> None:
    model = MODELS[kind]()
    (sum(loss_of(model, ids) for ids in MICRO_BATCHES[:2]) / 2).backward()
    for found in ranks:
        seen = found["silent"][kind]
        assert seen["sharded"] and seen["gradients"] == []
        assert seen["gathered"] == 2 * 3  # both layers and the root, in the forward pass and in the backward pass
        assert seen["next step"].keys() == {name for name, _ in trained(model)}
        for name, parameter in trained(model):
            torch.testing.assert_close(seen["next step"][name], parameter.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_is_gathered_apart_and_each_rank_keeps_half(ranks: list[dict[str, Any]], family: str) -> None:
    halves = [found["shards"][family] for found in ranks]
    total = halves[0][0]
    assert sum(local for _, local, _, _ in halves) == total
    for _, local, gathered, left in halves:
        assert 0.4 * total < local < 0.6 * total
        assert gathered == FAMILIES[family] + 1  # its layers and the root
        assert left == []  # also after a pass without a backward pass


def test_a_model_without_named_layers_is_refused(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert "cannot split Linear" in found["shards"]["no layers"]
        assert "set training.strategy to ddp" in found["shards"]["no layers"]


def test_passes_compute_in_the_asked_precision_over_float32_weights(ranks: list[dict[str, Any]]) -> None:
    kinds = {(torch.float32, torch.float32)}
    for found in ranks:
        assert found["precisions"] == {
            "DDPWorkers torch.bfloat16": (torch.bfloat16, kinds),
            "FSDPWorkers torch.bfloat16": (torch.bfloat16, kinds),
            "FSDPWorkers None": (torch.float32, kinds),
        }


def test_a_group_shares_the_model_as_the_experiment_says(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert found["talking"]["groups"] == ["DDPWorkers", "FSDPWorkers", "DDPWorkers"]


def test_a_group_that_shrank_to_one_rank_is_a_single_process(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        config = tiny_config(**{"training.workers": 2, "training.strategy": "fsdp", "model.compute_dtype": "bfloat16"})
        assert group_workers(config, CPU) == SingleProcess(CPU, torch.bfloat16)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("weights", "compute", "expected"),
    [
        ("float32", None, None),
        ("float32", "float32", None),
        ("float32", "bfloat16", torch.bfloat16),
        ("bfloat16", "bfloat16", None),
    ],
)
def test_a_precision_is_set_only_where_it_differs_from_the_weights(
    weights: str, compute: str | None, expected: torch.dtype | None
) -> None:
    config = tiny_config(**{"model.dtype": weights, "model.compute_dtype": compute})
    assert local_workers(config) == SingleProcess(CPU, expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="drop GPU"):
        local_workers(tiny_config(**{"training.resources_per_worker": {"CPU": 1, "GPU": 1}}))
