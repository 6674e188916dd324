"""Work in a Ray TorchTrainer: a group of workers that run one function on all ranks.

Ray's own checkpoints are not used. The function keeps its state in a directory of its own and is simply called again
when workers were lost, in a group of whatever size, so there is nothing of Ray's that could disagree with it.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray.train
from ray.exceptions import RayActorError
from ray.experimental import internal_kv
from ray.train import UserCallback
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.util.placement_group import get_current_placement_group, remove_placement_group

from seekr_tune.cluster.strategy import backend_of, group_workers
from seekr_tune.config import Config, TrainingConfig
from seekr_tune.errors import SeekrTuneError, StudyError
from seekr_tune.methods.workers import Workers
from seekr_tune.store import Store

_train: Any = ray.train  # what mypy reads of its configuration classes is the older Train's

T = TypeVar("T")
Report = Callable[[Mapping[str, Any]], None]
"""Sends progress to whoever watches the group; every rank calls it equally often."""

_START_ATTEMPTS = 3
"""Times that a worker group which does not start (no resources in time) is tried again."""

_START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
_START_SECONDS = 120.0
"""Time for the resources of a group; Ray may still be giving back those of the group before."""
_ELASTIC_START_SECONDS = 20.0
"""The same where a smaller group will do. For up to 20 s after a node was lost Ray still counts on it."""


def run_in_workers(
    function: Callable[[Workers, Report], T],
    config: Config,
    storage: Path | Store,
    name: str,
    callbacks: Sequence[UserCallback] = (),
) -> T:
    """Run `function` on every rank of a new worker group; rank 0's result. Needs a Ray session.

    Lost workers, lost nodes and anything else that a rank raises start the group again, `training.max_failures` times;
    so does, counted apart, the loss of the process that controls the group. With `training.min_workers` the new group
    has as many workers as there is room for, and grows again when there is more.

    Args:
        function: must be picklable; called again from the start after a failure.
        config: the experiment; its `training` says how many workers, and where.
        storage: where Ray may write: an absolute path that all nodes share, or a store that all nodes reach.
        name: of the group; each call gets a folder of its own in `storage`, for Ray would continue in an old one.
        callbacks: see what the group reports.

    Raises:
        SeekrTuneError: what `function` raised of this kind, be it on one rank only: the others are stopped at once, and
            it is not tried again.
        StudyError: lost workers cannot be replaced, for there is no room for the group any more.
        ray.train.TrainingFailedError: anything else, after the attempts that the experiment allows.
    """
    room = f"seekr-tune/{ray.get_runtime_context().get_job_id()}/{storage}/{name}"
    on_rank = partial(_on_rank, function=function, config=config, room=room)
    for attempts_left in reversed(range(config.training.max_failures + 1)):
        trainer = _trainer(on_rank, config.training, storage, name, [EndOnRefusal(), *callbacks])
        try:
            with _room_given_back(room), _start_timeout(config.training):
                result: T = trainer.fit().return_value
            return result
        except (ray.train.TrainingFailedError, RayActorError) as error:
            cause = getattr(error, "controller_failure", error)
            if isinstance(cause, SeekrTuneError):
                raise cause from None
            if isinstance(cause, WorkerGroupStartupTimeoutError):
                raise StudyError(_no_room(config.training)) from None
            is_of_workers = isinstance(error, ray.train.WorkerGroupError)  # Ray has tried those again itself
            if is_of_workers or not attempts_left:
                raise
    raise AssertionError("the last attempt returns or raises")


class EndOnRefusal(UserCallback):
    """Ends the group as soon as a rank refuses to go on, without another attempt.

    What a callback raises ends the run; Ray would try again what a worker raises. The other ranks may wait in a
    collective for the one that will never come: Ray stops them.
    """

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            if isinstance(error, SeekrTuneError):
                raise error


def _trainer(
    on_rank: Callable[[], Any],
    training: TrainingConfig,
    storage: Path | Store,
    name: str,
    callbacks: list[UserCallback],
) -> Any:
    elastic = training.min_workers is not None
    # Each group of an elastic run may first be asked for in the size that it had before a node was lost.
    start_attempts = _START_ATTEMPTS * (training.max_failures + 1) if elastic else _START_ATTEMPTS
    return TorchTrainer(
        on_rank,
        torch_config=TorchConfig(backend=backend_of(training)),
        scaling_config=_train.ScalingConfig(
            num_workers=(training.min_workers, training.workers) if elastic else training.workers,
            use_gpu=training.resources_per_worker.get("GPU", 0) > 0,
            resources_per_worker=dict(training.resources_per_worker),
            placement_strategy=training.placement.upper(),
        ),
        run_config=_train.RunConfig(
            name=f"{name}-{time.time_ns()}",
            storage_path=storage.path if isinstance(storage, Store) else str(storage),
            storage_filesystem=storage.filesystem if isinstance(storage, Store) else None,
            failure_config=_train.FailureConfig(
                max_failures=training.max_failures, controller_failure_limit=start_attempts
            ),
            callbacks=callbacks,
            logging_config=_train.LoggingConfig(log_level="WARNING"),
        ),
    )


@contextmanager
def _start_timeout(training: TrainingConfig) -> Iterator[None]:
    """Ray takes this setting from the environment of the process that starts the group."""
    given = os.environ.get(_START_TIMEOUT)
    seconds = _START_SECONDS if training.min_workers is None else _ELASTIC_START_SECONDS
    os.environ[_START_TIMEOUT] = given or str(seconds)
    try:
        yield
    finally:
        if given is None:
            del os.environ[_START_TIMEOUT]


def _no_room(training: TrainingConfig) -> str:
    amounts = ", ".join(f"{amount:g} {name}" for name, amount in training.resources_per_worker.items())
    return (
        f"there was no room for {training.min_workers or training.workers} workers of ({amounts}) for minutes: nodes "
        "were lost, or others use them; what is saved goes on when the command is given again"
    )


@contextmanager
def _room_given_back(key: str) -> Iterator[None]:
    """Give back what an earlier group under this key holds, and afterwards what the new one holds.

    Usually the controller has done so. One that was killed has not, and the next group would wait for it for ever:
    Ray's own cleaner needs the dashboard to see that a controller is gone.
    """
    _give_back(key)
    try:
        yield
    finally:
        _give_back(key)


def _give_back(key: str) -> None:
    held = internal_kv._internal_kv_get(key)
    if held is not None:
        remove_placement_group(pickle.loads(held))
        internal_kv._internal_kv_del(key)


def _on_rank(function: Callable[[Workers, Report], T], config: Config, room: str) -> T:
    workers = group_workers(config, get_device())
    if workers.rank == 0:
        internal_kv._internal_kv_put(room, pickle.dumps(get_current_placement_group()))
    return function(workers, _report)


def _report(metrics: Mapping[str, Any]) -> None:
    ray.train.report(dict(metrics))
