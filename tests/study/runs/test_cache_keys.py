"""Which runs begin alike: what is in the name of a first stage, and what is not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.config import Config
from seekr_tune.data.builtin import builtin_model_directory
from seekr_tune.data.sources import load_stream
from seekr_tune.data.task import Task, TaskStream
from seekr_tune.experiment import with_values
from seekr_tune.methods.workers import SingleProcess
from seekr_tune.models import digests
from seekr_tune.study.runs import cache_keys
from seekr_tune.study.runs.cache_keys import bound_directory, shared_directories


def stage_of(config: Config, cache: Path, stream: TaskStream | None = None, world_size: int = 1) -> Path:
    stream = stream or load_stream(config, ("train", *config.evaluation.splits))
    directories = shared_directories(cache, config, stream, SingleProcess(world_size=world_size))
    assert directories is not None
    return directories.stage


def bound_of(config: Config, cache: Path) -> Path:
    stream = load_stream(config, ("train", *config.evaluation.splits))
    directory = bound_directory(cache, config, stream, SingleProcess())
    assert directory is not None
    return directory


@pytest.mark.parametrize(
    "values",
    [
        {"stream.tasks": ["star", "paren"]},
        {"stream.tasks": ["star", "paren", "last"]},
        {"method.name": "derpp"},
        {"method.name": "seqft"},
        {"method.memory.percent": 50.0},
        {"method.seekr.attention_weight": 3.0, "method.seekr.head_budget": 1},
        {"memory_draw": 3},
        {"recipe.replay_batch_size": 2},
        {"evaluation.matrix": "full"},
        {"stream.limits.eval": 4},
        {"training.checkpoint_steps": 3},
        {"study.trials": 99},
        {"name": "another"},
        {"recipe.epochs": [1, 2, 3]},
    ],
    ids=str,
)
def test_what_cannot_change_the_first_task_does_not_change_its_name(
    values: dict[str, Any], config: Config, tmp_path: Path
) -> None:
    assert stage_of(with_values(config, values), tmp_path) == stage_of(config, tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"seed": 1},
        {"stream.tasks": ["last", "star", "paren"]},
        {"stream.limits.train": 16},
        {"recipe.learning_rate": 1e-4},
        {"recipe.epochs": 2},
        {"recipe.epochs": [2, 1, 1]},
        {"recipe.batch_size": 4},
        {"recipe.micro_batch_size": 2},
        {"recipe.reset_optimizer": False},
        {"method.semantics": "official"},
        {"model.dtype": "bfloat16"},
        {"model.compute_dtype": "bfloat16"},
        {"model.lora": {"rank": 4}},
        {"training.activation_checkpointing": True},
    ],
    ids=str,
)
def test_what_changes_the_first_task_changes_its_name(values: dict[str, Any], config: Config, tmp_path: Path) -> None:
    assert stage_of(with_values(config, values), tmp_path) != stage_of(config, tmp_path)


def test_another_number_of_workers_has_another_name(config: Config, tmp_path: Path) -> None:
    assert stage_of(config, tmp_path, world_size=2) != stage_of(config, tmp_path)


def test_one_training_sample_that_differs_gives_another_name(config: Config, tmp_path: Path) -> None:
    stream = load_stream(config, ("train", "eval"))
    first: Task = stream[0]
    changed = (replace(first.train[0], answer="other"), *first.train[1:])
    other = TaskStream((replace(first, splits={**first.splits, "train": changed}), *stream.tasks[1:]))
    assert stage_of(config, tmp_path, other) != stage_of(config, tmp_path, stream)
    later = TaskStream((first, replace(stream[1], splits=first.splits), stream[2]))
    assert stage_of(config, tmp_path, later) == stage_of(config, tmp_path, stream)


def test_the_name_follows_the_content_of_the_models_files(config: Config, tmp_path: Path) -> None:
    model = shutil.copytree(builtin_model_directory(), tmp_path / "model")
    copied = with_values(config, {"model.path": str(model)})
    assert stage_of(copied, tmp_path / "cache") == stage_of(config, tmp_path / "cache")
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert stage_of(copied, tmp_path / "cache") != stage_of(config, tmp_path / "cache")


def test_a_models_files_are_read_once(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_KEPT", 1)
    before = stage_of(config, tmp_path)
    monkeypatch.delattr(digests.hashlib, "file_digest")
    assert stage_of(config, tmp_path) == before


def test_other_sources_of_this_package_give_another_name(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stage_of(config, tmp_path)
    monkeypatch.setattr(cache_keys, "code_digest", lambda: "edited")
    assert stage_of(config, tmp_path) != before


def test_a_model_of_the_hub_without_a_commit_shares_nothing(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_keys, "read_model_config", lambda model, fetch: None)
    stream = load_stream(config, ("train",))
    of_hub = with_values(config, {"model.path": "someone/model"})
    assert shared_directories(tmp_path, of_hub, stream, SingleProcess()) is None


def test_a_bound_is_named_by_all_tasks_but_not_by_what_replay_does(config: Config, tmp_path: Path) -> None:
    bound = with_values(config, {"method.name": "seqft"})
    same = {"method.seekr.attention_weight": 1.0, "memory_draw": 2, "study.trials": 2, "name": "other"}
    assert bound_of(with_values(bound, same), tmp_path) == bound_of(bound, tmp_path)
    for values in (
        {"method.name": "joint"},
        {"stream.tasks": ["star", "paren", "last"]},
        {"stream.limits.eval": 4},
        {"evaluation.splits": ["eval", "test"]},
        {"evaluation.matrix": "full"},
        {"recipe.epochs": [1, 1, 2]},
        {"seed": 5},
    ):
        assert bound_of(with_values(bound, values), tmp_path) != bound_of(bound, tmp_path), values
