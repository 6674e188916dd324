"""How many bytes a worker needs: arithmetic over the shapes of a model and its samples, without loading either.

Exact for what this package stores. Not counted: activations (they depend on lengths, kernels and checkpointing), the
caches of generation, temporaries of the optimizer's step and of collectives (a layer or two), libraries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig

from seekr_tune.config import Config, ModelConfig
from seekr_tune.loop.optimizer import require_optimizer
from seekr_tune.loop.schedule import accumulation_steps, reading_batch
from seekr_tune.methods.registry import bytes_of_samples, require_methods
from seekr_tune.methods.semantics import SEMANTICS
from seekr_tune.methods.sizes import FLOAT32, SampleBytes, SampleSize
from seekr_tune.models.loading import model_shape, with_adapters
from seekr_tune.models.pretrained import empty_model

TOKEN_ID = 8
STEP_COUNT = 4
"""The optimizer's own count of steps, a float32 for each trained tensor."""


@dataclass(frozen=True)
class Weight:
    """One parameter.

    Attributes:
        shape: of the whole tensor.
        itemsize: bytes of an element.
        trained: whether it has a gradient and moments.
        layer: index of its decoder layer; None outside of them.
    """

    shape: tuple[int, ...]
    itemsize: int
    trained: bool
    layer: int | None

    @property
    def numel(self) -> int:
        """Elements of the whole tensor."""
        return math.prod(self.shape)

    def local_numel(self, parts: int) -> int:
        """Elements on the fullest of `parts` ranks that split it by rows, as FSDP2 does."""
        return -(-self.shape[0] // parts) * math.prod(self.shape[1:])


@dataclass(frozen=True)
class ModelSize:
    """A model's parameters, and the numbers that teacher signals depend on."""

    weights: tuple[Weight, ...]
    layers: int
    heads: int
    vocabulary: int

    @classmethod
    def of(cls, config: ModelConfig, model: PretrainedConfig) -> ModelSize:
        """Build the model, adapters included, without memory for its weights."""
        with torch.device("meta"):
            built = empty_model(model, dtype=getattr(torch, config.dtype))
            if config.lora is not None:
                built = with_adapters(built, config.lora)
        return cls(tuple(_weights_of(built)), *model_shape(model), int(model.vocab_size))


@dataclass(frozen=True)
class Footprint:
    """Bytes of the fullest worker.

    Attributes:
        weights: of its share of the model.
        copies: of weights that a pass holds besides: cast to the precision of computation, gathered by FSDP.
        gradients: of its share of the trained weights.
        moments: of the optimizer.
        method: what methods know of the trained weights (`Needs.weight_copies`).
        evaluating: weights that FSDP makes whole on every worker for generation.
        reading: what methods hold in a pass over stored samples.
        loading: the whole model, which every worker reads into main memory first.
        signals: teacher signals of the memory after the last task, with the samples' tokens.
        rows: what methods hold beside the samples of a task until it ends, of the task with the most.
        staged: copy of weights and moments for a checkpoint inside a task, until it is written.
        checkpoint: on disk, of all workers: the last one between tasks.
        checkpoint_inside: on disk, of all workers: one inside a task.
    """

    weights: int
    copies: int
    gradients: int
    moments: int
    method: int
    evaluating: int
    reading: int
    loading: int
    signals: int
    rows: int
    staged: int
    checkpoint: int
    checkpoint_inside: int

    @property
    def device(self) -> int:
        """Most at once where the model computes."""
        passing = max(self.copies + max(self.gradients, self.reading), self.evaluating)
        return self.weights + self.moments + self.method + passing

    @property
    def host(self) -> int:
        """Most at once in main memory, where the device has a memory of its own."""
        return max(self.loading, self.signals + self.rows + self.staged)

    @property
    def together(self) -> int:
        """Most at once where the model computes in main memory."""
        return self.device + self.signals + self.rows + self.staged


def footprint(size: ModelSize, config: Config, stored: Sequence[Sequence[SampleSize]]) -> Footprint:
    """What an experiment takes, with `training.workers` workers.

    Args:
        size: of its model.
        config: the experiment; its method says what is stored of a sample.
        stored: sizes of the samples that the memory keeps of each task, in the order of the draws.
    """
    trained = [weight for weight in size.weights if weight.trained]
    parts = _parts(config)
    weights, own = _local_bytes(size.weights, parts), _local_bytes(trained, parts)
    kept = require_optimizer(config).copies
    moments = _moments(own, trained, kept)
    whole_trained = _local_bytes(trained, 1)
    copies = sum(cls.needs.weight_copies for cls, _ in require_methods(config).values())
    of = bytes_of(size, config)
    known = sum(of(sample).known for task in stored for sample in task)
    signals = _by_worker(stored, config, lambda sample: of(sample).signals)
    rows = [_by_worker([task], config, lambda sample: of(sample).rows) for task in stored]
    semantics, reset = SEMANTICS[config.method.semantics], config.recipe.reset_optimizer
    resets = semantics.resets_optimizer if reset is None else reset
    waiting = _workers(config) * whole_trained if accumulation_steps(config, semantics) > 1 else 0
    inside = whole_trained + _moments(whole_trained, trained, kept) + waiting
    saves_inside = config.training.checkpoint_steps or config.training.checkpoint_seconds
    return Footprint(
        weights=weights,
        copies=_copies(size, config),
        gradients=own,
        moments=moments,
        method=copies * _numbers(trained, parts) * FLOAT32,
        evaluating=_cast(size.weights, config) if _is_sharded(config) and config.evaluation.splits else 0,
        reading=_reading(config, stored, lambda sample: of(sample).reading),
        loading=_local_bytes(size.weights, 1),
        signals=max(signals) + known,
        rows=max((max(task) for task in rows), default=0),
        staged=own + moments if saves_inside else 0,
        checkpoint=(whole_trained + waiting if resets else inside)
        + sum(signals)
        + known
        + copies * _numbers(trained, 1) * FLOAT32,
        checkpoint_inside=inside,
    )


def bytes_of(size: ModelSize, config: Config) -> Callable[[SampleSize], SampleBytes]:
    """What a stored sample takes, by its size; its tokens are known to every worker."""
    besides = bytes_of_samples(config, size.layers, size.heads, size.vocabulary)
    return lambda sample: besides(sample) + SampleBytes(known=TOKEN_ID * sample.length)


def _by_worker(
    stored: Sequence[Sequence[SampleSize]], config: Config, bytes_of: Callable[[SampleSize], int]
) -> list[int]:
    """Sums over the samples that each worker reads and keeps: batches in turn, tasks starting one further."""
    sums = [0] * _workers(config)
    for index, task in enumerate(stored):
        for position, sample in enumerate(task):
            part = position // reading_batch(config)
            sums[(index + part) % len(sums)] += bytes_of(sample)
    return sums


def _reading(config: Config, stored: Sequence[Sequence[SampleSize]], bytes_of: Callable[[SampleSize], int]) -> int:
    batch = reading_batch(config)
    passes = [task[start : start + batch] for task in stored for start in range(0, len(task), batch)]
    return max((sum(map(bytes_of, read)) for read in passes), default=0)


def _copies(size: ModelSize, config: Config) -> int:
    if not _is_sharded(config):
        matrices = [weight for weight in size.weights if len(weight.shape) > 1]
        return _cast(matrices, config) if _casts(config.model) else 0
    by_layer: dict[int | None, list[Weight]] = {}
    for weight in size.weights:
        by_layer.setdefault(weight.layer, []).append(weight)
    outside = _cast(by_layer.pop(None, []), config)
    return outside + 2 * max(_cast(layer, config) for layer in by_layer.values())  # the next one is gathered early


def _moments(own: int, trained: Sequence[Weight], copies: int) -> int:
    """What the optimizer keeps, so many copies of trained weights of `own` bytes, and its count of steps."""
    return copies * own + STEP_COUNT * len(trained)


def _workers(config: Config) -> int:
    return max(1, config.training.workers)


def _is_sharded(config: Config) -> bool:
    return config.training.parallelism == "fsdp"


def _parts(config: Config) -> int:
    """Ranks over which every tensor of the model is split."""
    return _workers(config) if _is_sharded(config) else 1


def _local_bytes(weights: Iterable[Weight], parts: int) -> int:
    return sum(weight.local_numel(parts) * weight.itemsize for weight in weights)


def _numbers(weights: Iterable[Weight], parts: int) -> int:
    return sum(weight.local_numel(parts) for weight in weights)


def _cast(weights: Iterable[Weight], config: Config) -> int:
    """Whole weights in the precision of computation."""
    return sum(weight.numel * (2 if _casts(config.model) else weight.itemsize) for weight in weights)


def _casts(model: ModelConfig) -> bool:
    return model.compute_dtype == "bfloat16" and model.dtype == "float32"


def _weights_of(model: Any) -> Iterable[Weight]:
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    layers = [prefix for prefix, module in model.named_modules() if type(module).__name__ in names]
    for name, parameter in model.named_parameters():
        inside = next((i for i, prefix in enumerate(layers) if name.startswith(f"{prefix}.")), None)
        yield Weight(tuple(parameter.shape), parameter.element_size(), parameter.requires_grad, inside)
