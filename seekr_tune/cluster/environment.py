"""What every start of Ray has in common: settings, and where its processes look for code."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from seekr_tune.code_path import child_variables, package_root
from seekr_tune.quiet_libraries import hear_libraries

if TYPE_CHECKING:
    from ray.job_config import JobConfig

EVERYWHERE = {
    # Train's controller consumes reports only when it polls; at its default of 2 s, short tasks wait for it.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of an experiment mean the same in a trial
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Settings that the processes of trials read, too; in a private session they inherit them."""

DRIVER = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # The trial directories are the truth: Tune's logs and snapshots would only cost time.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune would end runs in the middle of a step
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    # The searcher hands out as many runs as fit. At Tune's own 1, their processes would start one after the other.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints errors of trials even when it is to be silent
    # Under `uv run` it would send the working directory to all workers, as a place of code.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
"""Settings that this process reads."""


@contextmanager
def ray_environment(values: Mapping[str, str]) -> Iterator[None]:
    """For the time of the block: set what the user has not set, and keep the working directory off the path of every
    process that is started."""
    wanted: dict[str, str | None] = {name: value for name, value in values.items() if name not in os.environ}
    wanted |= child_variables()
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def settings_of_trials() -> dict[str, str]:
    """What the processes of a cluster cannot inherit."""
    told = {name: os.environ[name] for name in os.environ if name in EVERYWHERE or name.startswith("RAY_TRAIN_")}
    return told | {"PYTHONSAFEPATH": "1"}


def our_job() -> JobConfig:
    """How Ray is to run us: with this package on the path of its workers, where they do not find it by themselves.

    Ray would put the working directory there, and the one of the script: whoever works in a study's directory would run
    the `numpy/` that somebody has put into it. It does not where a job brings a working directory of its own.
    """
    from ray.job_config import JobConfig

    class Job(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    root = package_root()
    return Job(_py_driver_sys_path=[] if root is None else [root])


@contextmanager
def starting() -> Iterator[None]:
    """While Ray starts: it ends the process at SIGTERM; a handler that the caller brought stays instead."""
    hear_libraries()
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _read_again()


def _read_again() -> None:
    """Let Ray read what it reads on import, once for all sessions: which address of this machine it takes, and whether
    it does something of its own under `uv run`."""
    from ray._private import ray_constants

    ray: Any = ray_constants
    ray.ENABLE_RAY_CLUSTER = ray.env_bool(ray.ENABLE_RAY_CLUSTERS_ENV_VAR, not ray.IS_WINDOWS_OR_OSX)
    ray.RAY_ENABLE_UV_RUN_RUNTIME_ENV = ray.env_bool("RAY_ENABLE_UV_RUN_RUNTIME_ENV", True)
