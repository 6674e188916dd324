from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig

from seekr_tune.checkpoint.codec import signal_tensors
from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.cluster.strategy import group_workers
from seekr_tune.config import Config, ModelConfig
from seekr_tune.loop.footprint import ModelSize, bytes_of, footprint
from seekr_tune.loop.loop import StreamRun
from seekr_tune.methods.memory import ReplayMemory
from seekr_tune.methods.seekr.teacher import Teacher
from seekr_tune.methods.sizes import SampleSize
from seekr_tune.methods.storage import visible_keys
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.models.loading import LoadedModel, with_adapters
from tests.cluster.ranks import run_ranks
from tests.loop.tiny import TASKS, Run, run, tiny_config, tiny_loaded, tiny_model, tiny_stream

LLAMA_7B = LlamaConfig()
"""transformers' defaults are the shape of Llama-2-7B."""


def tiny_size(**model: Any) -> ModelSize:
    return ModelSize.of(ModelConfig(**model), tiny_model().config)


def stored_by_task(memory: ReplayMemory) -> list[list[SampleSize]]:
    sizes: list[list[SampleSize]] = [[] for _ in TASKS]
    for sample in memory:
        visible = int(visible_keys(sample.queries, len(sample.input_ids)).sum())
        sizes[sample.task].append(SampleSize(len(sample.input_ids), sample.num_labels, visible))
    return sizes


def memory_of(done: Run) -> ReplayMemory:
    return done.outcomes[-1].state.memory


def loaded_for(config: Config) -> LoadedModel:
    loaded = tiny_loaded()
    if config.model.lora is None:
        return loaded
    return LoadedModel(with_adapters(loaded.model, config.model.lora), loaded.tokenizer, loaded.pad_token_id)


def waiting_gradients(config: Config) -> int:
    """Bytes of gradients that may wait for an update, and may not: the official reading accumulates over steps."""
    trained = sum(parameter.nbytes for parameter in tiny_model().parameters())
    return trained if config.method.semantics == "official" else 0


def tensor_bytes(paths: Iterable[Path]) -> int:
    """Bytes of the tensors in safetensors files, without their headers."""
    total = 0
    for path in paths:
        content = path.read_bytes()
        header = int.from_bytes(content[:8], "little")
        entries = json.loads(content[8 : 8 + header])
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        assert len(content) - 8 - header == max(ends, default=0)
        total += len(content) - 8 - header
    return total


def test_a_model_is_measured_without_its_weights() -> None:
    size = ModelSize.of(ModelConfig(dtype="bfloat16"), LLAMA_7B)
    assert sum(weight.numel for weight in size.weights) == 6_738_415_616
    assert (size.layers, size.heads, size.vocabulary) == (32, 32, 32000)
    assert {weight.itemsize for weight in size.weights} == {2} and len({weight.layer for weight in size.weights}) == 33


@pytest.mark.parametrize(("signals", "megabytes"), [("exact", 47.5), ("half", 23.8), ("compact", 2.6)])
def test_a_long_sample_of_a_large_model_takes_little(signals: str, megabytes: float) -> None:
    """Llama-2-7B, 1536 tokens, 64 labels, 128 heads, 100 query rows; the release's script keeps 801 MB."""
    config = tiny_config(
        **{
            "method.seekr.signals": signals,
            "method.seekr.head_budget": 128,
            "method.seekr.query_budget": 100,
            "method.seekr.layer_ratio": 0.75,
        }
    )
    size = ModelSize.of(ModelConfig(), LLAMA_7B)
    assert bytes_of(size, config)(SampleSize(1536, 64)).signals / 1e6 == pytest.approx(megabytes, abs=0.1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_gradients_and_moments_are_those_of_a_model_in_training(dtype: str) -> None:
    for lora in (None, {"rank": 3}):
        config = tiny_config(**{"model.dtype": dtype, "model.lora": lora})
        model = tiny_model().to(getattr(torch, dtype))
        model = model if config.model.lora is None else with_adapters(model, config.model.lora)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained)
        model(input_ids=torch.ones(1, 3, dtype=torch.long)).logits.float().sum().backward()
        optimizer.step()
        found = footprint(ModelSize.of(config.model, tiny_model().config), config, [])
        assert found.weights == found.loading == sum(parameter.nbytes for parameter in model.parameters())
        assert found.gradients == sum(parameter.grad.nbytes for parameter in trained if parameter.grad is not None)
        assert found.moments == sum(entry.nbytes for state in optimizer.state.values() for entry in state.values())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method.name": "derpp"},
        {"method.name": "replay"},
        {"method.name": "seqft"},
        {"method.seekr.selection": "all", "method.seekr.query_budget": None},
        {"method.seekr.signals": "half"},
        {"method.seekr.signals": "compact"},
        {"method.semantics": "official", "method.seekr.query_budget": 9, "recipe.micro_batch_size": 2},
        {"recipe.reset_optimizer": False, "model.lora": {"rank": 2}},
    ],
    ids=str,
)
def test_memory_and_checkpoints_are_as_large_as_those_of_a_run(settings: dict[str, Any], tmp_path: Path) -> None:
    config = tiny_config(**settings, **{"training.checkpoint_steps": 2})

    def stop(record: StepRecord) -> None:
        if (record.task_index, record.step) == (1, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, loaded_for(config), tmp_path, on_step=stop)
    inside = tensor_bytes((tmp_path / "checkpoints" / "task-0001-step-000002").glob("*.safetensors"))
    memory = memory_of(run(config, loaded_for(config), tmp_path))
    found = footprint(ModelSize.of(config.model, tiny_model().config), config, stored_by_task(memory))
    assert found.signals == sum(sample.num_bytes for sample in memory)
    last = tmp_path / "checkpoints" / "task-0003"
    kinds = ("weights", "learner", "gradients", "memory", "samples")
    files = [path for path in last.glob("*.safetensors") if path.name.split("-")[0].split(".")[0] in kinds]
    assert found.checkpoint == tensor_bytes(files)
    assert inside in (found.checkpoint_inside, found.checkpoint_inside - waiting_gradients(config))


def measured_on_a_rank(config: Config) -> dict[str, int]:
    """What one rank really holds when the stream is learned; `config.training` says how the ranks share it."""
    held = [0]
    lesson = Teacher.lesson

    def note(self: Teacher, passes: Any, queried: Any, before: Mapping[int, Tensor]) -> Any:
        seen = lesson(self, passes, queried, before)
        tensors = (*before.values(), *seen.rows.values())
        held.append(sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values()))
        return seen

    workers = group_workers(config, torch.device("cpu")) if config.training.workers > 1 else SingleProcess()
    loaded = tiny_loaded()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Teacher, "lesson", note)
        run = StreamRun(config, tiny_stream(config.stream.tasks), loaded, workers=workers)
        *_, last = run.outcomes()
    parameters = [_local(parameter) for parameter in loaded.model.parameters()]
    moments = [_local(entry) for state in run._learner._optimizer.state.values() for entry in state.values()]
    return {
        "signals": sum(sample.num_bytes for sample in last.state.memory),
        "teachers": sum(tensor.nbytes for tensor in signal_tensors(last.state.memory).values()),
        "rows": max(held),
        "weights": sum(parameter.nbytes for parameter in parameters),
        "moments": sum(moment.nbytes for moment in moments),
    }


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def fullest(config: Config, directory: Path) -> dict[str, int]:
    """The largest number of any rank, of each kind."""
    directory.mkdir()
    ranks = run_ranks(partial(measured_on_a_rank, config), config.training.workers, directory)
    return {name: max(rank[name] for rank in ranks) for name in ranks[0]}


def expected_of(config: Config) -> dict[str, int]:
    alone = tiny_config(**SIX_EACH)
    memory = memory_of(run(alone))
    known = sum(8 * (len(sample.input_ids) + len(sample.queries)) for sample in memory)
    found = footprint(tiny_size(), config, stored_by_task(memory))
    numbers = {name: getattr(found, name) for name in ("signals", "rows", "weights", "moments")}
    return numbers | {"teachers": found.signals - known}


SIX_EACH = {"method.memory.percent": 50.0}
"""Six stored samples of each task: three replay batches, so two ranks get unequal shares of each task."""


def test_one_process_holds_what_is_foretold() -> None:
    config = tiny_config(**SIX_EACH)
    assert measured_on_a_rank(config) == expected_of(config)


def test_two_workers_hold_what_is_foretold_and_split_the_signals(tmp_path: Path) -> None:
    alone = expected_of(tiny_config(**SIX_EACH))
    for strategy in ("ddp", "fsdp"):
        config = tiny_config(**SIX_EACH, **{"training.workers": 2, "training.strategy": strategy})
        found = fullest(config, tmp_path / strategy)
        assert found == expected_of(config)
        assert found["teachers"] < 0.6 * alone["teachers"] and found["rows"] < 0.7 * alone["rows"]
        assert (found["weights"] < 0.6 * alone["weights"]) == (strategy == "fsdp")
        assert (found["moments"] < 0.6 * alone["moments"]) == (strategy == "fsdp")
