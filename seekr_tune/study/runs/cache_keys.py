"""What runs may share: which of them begin alike.

A name in the cache is a digest of everything that the work under it depends on, so there is nothing to be compared and
nothing to go stale: what changed has another name. Shared are

- `base/<key>/`: scores of the model before any training,
- `stages/<key>/`: weights, learner, step records and scores after the first task (`loop.first_stage`),
- `bounds/<key>/`: finished reference runs (`study.bounds`),
- `floors/`: which constant answer is best for a task (`constants`).

The key of a first stage holds the sources of this package, torch and the machine, the model's files (or its commit on
the hub), how it is loaded, the first task's training samples, the recipe, the seed, the reading of the method, and the
workers. Not in it, for nothing of the first task depends on them: the later tasks, the replay batch, the memory draw,
the rest of the method, and what is scored.

Not shared, because it depends on these: what the memory keeps of the first task (which samples, which heads, teacher
signals), all later tasks, and the single stage of `joint`. Runs in another number of workers add up in another order
and share nothing with these. A model of the hub whose commit is not known shares nothing at all.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from seekr_tune.config import Config
from seekr_tune.config.facts import recipe_of_all
from seekr_tune.data.task import TaskStream
from seekr_tune.loop.first_stage import SharedDirectories
from seekr_tune.methods.workers import Workers
from seekr_tune.models.digests import digest_of_file, digest_of_sources
from seekr_tune.models.loading import model_directory, read_model_config
from seekr_tune.study.runs.outcome import code_version

_LEARNS = ("config", "data", "methods", "models", "checkpoint", "loop", "cluster")
"""Parts of this package that decide what is learned and scored."""


def shared_directories(cache: Path, config: Config, stream: TaskStream, workers: Workers) -> SharedDirectories | None:
    """Where a run shares its beginning; None where its model cannot be named. Reads the model's files once.

    Args:
        cache: of shared work.
        config: the experiment as the run sees it.
        stream: its tasks.
        workers: the processes that share the run.
    """
    base = _base(cache, config, workers)
    if base is None:
        return None
    stage = {
        **base,
        "seed": config.seed,
        "recipe": {**_recipe(config), "epochs": config.recipe.epochs_of(0)},
        "task": stream[0].name,
        "train": [[example.prompt, example.answer] for example in stream[0].train],
    }
    return SharedDirectories(cache / "base" / _digest(base), cache / "stages" / _digest(stage))


def bound_directory(cache: Path, config: Config, stream: TaskStream, workers: Workers) -> Path | None:
    """Where a finished run of `seqft` or `joint` is kept for other studies; None where its model cannot be named.

    Neither replays anything, so no setting of replay or distillation is in the key.
    """
    assert config.method.label in ("seqft", "joint")
    base = _base(cache, config, workers)
    if base is None:
        return None
    learned = {
        **base,
        "method": config.method.label,
        "seed": config.seed,
        "recipe": _recipe(config),
        "evaluation": config.evaluation.model_dump(mode="json"),
        "tasks": [
            [task.name, task.scorer.key, split, [[example.prompt, example.answer] for example in task.splits[split]]]
            for task in stream
            for split in sorted(task.splits)
        ],
    }
    return cache / "bounds" / _digest(learned)


def _base(cache: Path, config: Config, workers: Workers) -> dict[str, Any] | None:
    """All that the scores of an untrained model depend on, besides the samples."""
    model = _model(cache, config)
    if model is None:
        return None
    lora = config.model.lora
    return {
        "code": [code_version(), code_digest()],
        "libraries": [torch.__version__, transformers.__version__, peft.__version__],
        "device": [_device_name(workers.device), torch.get_num_threads()],
        "workers": [workers.world_size, config.training.parallelism, config.training.activation_checkpointing],
        "model": model,
        "dtypes": [config.model.dtype, config.model.compute_dtype],
        "adapters": None if lora is None else [lora.model_dump(mode="json"), config.seed],
        "converter": [_named(config, config.model.converter), dict(config.model.converter_options)],
        "semantics": config.method.semantics,
    }


def _recipe(config: Config) -> dict[str, Any]:
    """What the first task, and a run without replay, can depend on of the recipe."""
    return {**recipe_of_all(config), "optimizer": _named(config, config.recipe.optimizer)}


def _named(config: Config, name: str | None) -> Any:
    """What a name stands for: code of a user by its digest."""
    plugin = config.plugins.get(name) if name else None
    return name if plugin is None else [plugin.origin, plugin.sha256]


def _model(cache: Path, config: Config) -> Any:
    """Files of a model's directory, or its commit on the hub; None where that is not known."""
    directory = model_directory(config.model)
    if directory is None:
        found = read_model_config(config.model, fetch=True)
        commit: str | None = getattr(found, "_commit_hash", None)
        return None if commit is None else [config.model.path, commit]
    files = sorted(path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    return [[path.name, digest_of_file(cache, path)] for path in files]


def code_digest() -> str:
    """Digest of the code that learns and scores."""
    return digest_of_sources(*_LEARNS)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
