"""Work in a Ray TorchTrainer: a group of workers that run one function on all ranks.

Ray's own checkpoints are not used. The function keeps its state in a directory of its own and is simply called again
when workers were lost, so there is nothing of Ray's that could disagree with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ray.train
from ray.train import UserCallback
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from seekr_tune.config import TrainingConfig
from seekr_tune.errors import SeekrTuneError
from seekr_tune.sequence.workers import Workers
from seekr_tune.training.strategy import backend_of, group_workers

_train: Any = ray.train  # what mypy reads of its configuration classes is the older Train's

T = TypeVar("T")
Report = Callable[[Mapping[str, Any]], None]
"""Sends progress to whoever watches the group; every rank calls it equally often."""

_START_ATTEMPTS = 3
"""Times that a worker group which does not start (no resources in time) is tried again."""


def run_in_workers(
    function: Callable[[Workers, Report], T],
    training: TrainingConfig,
    storage: Path,
    name: str,
    callbacks: Sequence[UserCallback] = (),
) -> T:
    """Run `function` on every rank of a new worker group; rank 0's result. Needs a Ray session.

    Args:
        function: must be picklable; called again from the start after workers were lost.
        training: number of workers, their resources, how often lost ones are started again.
        storage: where Ray may write, absolute.
        name: of the group; each call gets a folder of its own in `storage`, for Ray would continue in an old one.
        callbacks: see what the group reports.

    Raises:
        SeekrTuneError: what `function` raised of this kind; it is not tried again.
        ray.train.TrainingFailedError: anything else, after the attempts that the experiment allows.
    """
    trainer: Any = TorchTrainer(
        _on_rank,
        train_loop_config={"function": function, "training": training},
        torch_config=TorchConfig(backend=backend_of(training)),
        scaling_config=_train.ScalingConfig(
            num_workers=training.workers,
            use_gpu=training.resources_per_worker.get("GPU", 0) > 0,
            resources_per_worker=dict(training.resources_per_worker),
        ),
        run_config=_train.RunConfig(
            name=f"{name}-{time.time_ns()}",
            storage_path=str(storage),
            failure_config=_train.FailureConfig(
                max_failures=training.max_failures, controller_failure_limit=_START_ATTEMPTS
            ),
            callbacks=list(callbacks),
            logging_config=_train.LoggingConfig(log_level="ERROR"),
        ),
    )
    result: T | SeekrTuneError = trainer.fit().return_value
    if isinstance(result, SeekrTuneError):
        raise result
    return result


def _on_rank(loop_config: dict[str, Any]) -> Any:
    training: TrainingConfig = loop_config["training"]
    try:
        return loop_config["function"](group_workers(training, get_device()), _report)
    except SeekrTuneError as error:  # raised on every rank alike; Ray would start the group again for nothing
        return error


def _report(metrics: Mapping[str, Any]) -> None:
    ray.train.report(dict(metrics))
