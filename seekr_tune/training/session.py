"""A Ray session on this machine: started quietly, reachable from this machine only, ended when the work is done."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from seekr_tune.config import TrainingConfig
from seekr_tune.errors import StudyError

TRIAL_SLOT = "trial_slot"
"""Ray resource of a trial that only waits for its worker group: Ray refuses a trial that asks for nothing."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray takes the loopback address for its node, and with it binds every port to 127.0.0.1. It keeps its default
    # token authentication: other users of the machine can reach a loopback port, but cannot run code through it.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Train's controller consumes reports only when it polls; at its default of 2 s, short tasks wait for it.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of an experiment mean the same in a trial
    # The trial directories are the truth: Tune's logs and snapshots would only cost time.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints errors of trials even when it is to be silent
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
}


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray for the time of the block. One that the caller has started is used as it is, and left running."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        resources={TRIAL_SLOT: 1000},
    )
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):  # errors of runs are in their own directories
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


def trials_at_once(training: TrainingConfig) -> int:
    """Trials that the machine's resources allow at the same time. Needs a Ray session.

    Raises:
        StudyError: not even one; Ray would wait for ever for the missing resources.
    """
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    num_workers = max(1, training.workers)
    rooms: dict[str, int] = {
        name: math.floor(there.get(name, 0.0) / (amount * num_workers) + 1e-9)
        for name, amount in training.resources_per_worker.items()
    }
    for name, room in rooms.items():
        if room < 1:
            needed = training.resources_per_worker[name] * num_workers
            raise StudyError(
                f"a trial needs {needed:g} {name} ({num_workers} x training.resources_per_worker), but this machine "
                f"has {there.get(name, 0.0):g}; ask for less, or for fewer training.workers"
            )
    return min(rooms.values())
