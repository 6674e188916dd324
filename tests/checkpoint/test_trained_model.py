"""The model of a finished run is the one that the run ended with, whoever saved it."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from seekr_tune.checkpoint.trained_model import load_finished
from seekr_tune.cluster.strategy import group_workers, local_workers
from seekr_tune.config import Config
from seekr_tune.errors import CheckpointError
from seekr_tune.loop.loop import run_stream
from seekr_tune.models.loading import load_model
from tests.cluster.ranks import run_ranks
from tests.loop.tiny import saved_model, tiny_config, tiny_stream


def learn(config: Config, directory: Path) -> dict[str, Tensor]:
    """Learn the tiny stream, in the process group if there is one; the weights at the end, whole."""
    workers = group_workers(config, torch.device("cpu")) if dist.is_initialized() else local_workers(config)
    torch.manual_seed(config.seed)  # adapters start from random weights
    loaded = load_model(config.model)
    stream = tiny_stream(config.stream.tasks)
    assert len(list(run_stream(config, stream, loaded, directory=directory, workers=workers))) == len(stream)
    return {
        name: (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach().clone()
        for name, weight in loaded.trainable().items()
    }


def settings(tmp_path: Path, **values: object) -> Config:
    model = saved_model(tmp_path / "model")
    return tiny_config(**{"model.path": str(model), "stream.tasks": ["first", "last"], **values})


@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["all weights", "adapters"])
def test_the_weights_of_the_last_task_come_back_bit_for_bit(tmp_path: Path, lora: object) -> None:
    config = settings(tmp_path, **{"model.lora": lora})
    expected = learn(config, tmp_path / "run")
    found = load_finished(config, tmp_path / "run" / "checkpoints")
    weights = found.loaded.trainable()
    assert found.checkpoint == "task-0002" and weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    fresh = load_model(config.model).trainable()
    assert not all(torch.equal(weights[name], fresh[name]) for name in expected)


def test_shards_of_several_ranks_are_put_together(tmp_path: Path) -> None:
    config = settings(tmp_path, **{"training.workers": 2, "training.strategy": "fsdp"})
    (tmp_path / "meeting").mkdir()
    expected, _ = run_ranks(partial(learn, config, tmp_path / "run"), 2, tmp_path / "meeting")
    stage = tmp_path / "run" / "checkpoints" / "task-0002"
    assert len(list(stage.glob("weights-*-of-02.safetensors"))) == 2
    weights = load_finished(config, stage.parent).loaded.trainable()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_an_earlier_checkpoint_is_no_finished_model(tmp_path: Path) -> None:
    config = settings(tmp_path)
    learn(config, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    weights = next((checkpoints / "task-0002").glob("weights-*"))
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="no intact checkpoint task-0002"):
        load_finished(config, checkpoints)
    shutil.rmtree(checkpoints)
    with pytest.raises(CheckpointError, match="no intact checkpoint task-0002"):
        load_finished(config, checkpoints)
