"""A study from start to end: start it, resume it, look at it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from seekr_tune.analysis.files import write_atomically
from seekr_tune.analysis.ledger import write_ledger
from seekr_tune.analysis.record import StepRow, read_steps
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import dump_config, load_experiment, with_values
from seekr_tune.study.console import ProgressConsole
from seekr_tune.study.layout import (
    driver_path,
    experiment_path,
    is_run,
    is_study,
    space_path,
    trial_path,
)
from seekr_tune.study.search import TrialQueue, open_study
from seekr_tune.study.space import Space, load_space, space_of
from seekr_tune.study.status import StudyStatus, read_records, study_status
from seekr_tune.training.session import cluster_session

__all__ = ["resume_study", "start_study", "study_status"]


def start_study(
    config: Config,
    experiment: Path | Space,
    directory: Path | str,
    *,
    address: str | None = None,
    console: Console | None = None,
) -> StudyStatus:
    """Run a new study to its end.

    Args:
        config: the experiment; `study` says what is searched and how many trials are run.
        experiment: the experiment file, which `study.space` is relative to; or the space itself.
        directory: the study's directory; it must not hold a study or a run.
        address: of a running Ray cluster, HOST:PORT or `auto`; None: this machine.
        console: where to show progress.

    Raises:
        StudyError: the directory is taken, the machine is too small for one trial, or no cluster is at the address.
        ConfigError: the space or the objectives are wrong.
    """
    directory = Path(directory).absolute()
    if isinstance(experiment, Space):
        space = experiment
        space.require_fits(config)
    else:
        space = space_of(config, experiment)
    config = with_values(config, {"study.space": space_path(directory).name})
    with cluster_session(address), _study_lock(directory):
        if is_study(directory):
            raise StudyError(f"{directory}: holds a study already; go on with `seekr-tune resume {directory}`")
        if is_run(directory):
            raise StudyError(f"{directory}: holds a single run; choose another directory for the study")
        with _ray_with_room(config):
            open_study(directory, config, space)
            write_atomically(space_path(directory), space.dump().encode())
            write_atomically(experiment_path(directory), dump_config(config).encode())
            _drive(directory, config, space, console)
    return study_status(directory)


def resume_study(
    directory: Path | str,
    *,
    trials: int | None = None,
    address: str | None = None,
    console: Console | None = None,
) -> StudyStatus:
    """Go on with a study: its unfinished runs first, then new trials up to the total.

    Args:
        directory: the study's directory.
        trials: new total of trials; None keeps it.
        address: of a running Ray cluster, HOST:PORT or `auto`; None: this machine.
        console: where to show progress.

    Raises:
        StudyError: no study is there, another process runs it, its files were changed, the total is too small, or no
            cluster is at the address.
    """
    directory = Path(directory).absolute()
    if not is_study(directory):
        raise StudyError(f"{directory}: holds no study; start one with `seekr-tune sweep EXPERIMENT --out {directory}`")
    with cluster_session(address), _study_lock(directory):
        config, space = load_experiment(experiment_path(directory)), load_space(space_path(directory))
        if trials is not None and trials != config.study.trials:
            _require_total(directory, config, space, trials)
            config = with_values(config, {"study.trials": trials})
            write_atomically(experiment_path(directory), dump_config(config).encode())
        _drive(directory, config, space, console)
    return study_status(directory)


def _drive(directory: Path, config: Config, space: Space, console: Console | None) -> None:
    queue = TrialQueue(open_study(directory, config, space), space, config, directory)
    ledger = _Ledger(directory)
    total = config.study.trials + len(config.study.bounds)
    try:
        if queue.num_left:
            with ProgressConsole(console, total, done=total - queue.num_left) as progress:
                _run_left(queue, total, progress, ledger)
    finally:
        ledger.write()


def _run_left(queue: TrialQueue, total: int, progress: ProgressConsole, ledger: _Ledger) -> None:
    from seekr_tune.study.tuner import run_queue
    from seekr_tune.training.session import trials_at_once

    with _ray_with_room(queue.config):
        room = min(trials_at_once(queue.config.training), queue.config.study.max_concurrent or queue.num_left)
        progress.say(f"{queue.directory}: {queue.num_left} of {total} runs to go, {room} at a time")
        run_queue(queue, room, progress, ledger.write)


class _Ledger:
    """Writes a study's ledger from its runs' directories; steps of finished runs are read once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._steps: dict[str, tuple[StepRow, ...]] = {}

    def write(self) -> None:
        records = read_records(self._directory)
        for record in records:
            path = trial_path(self._directory, record.trial) / "steps.jsonl"
            if record.trial not in self._steps and path.is_file():
                self._steps[record.trial] = read_steps(path)
        write_ledger(self._directory, records, self._steps)
        self._steps = {
            record.trial: self._steps[record.trial]
            for record in records
            if record.status == "finished" and record.trial in self._steps
        }


def _require_total(directory: Path, config: Config, space: Space, trials: int) -> None:
    """Refuse a total below what the search has proposed already."""
    asked = TrialQueue(open_study(directory, config, space), space, config, directory).num_asked
    if trials < asked:
        raise StudyError(f"{directory}: has {asked} trials already; give --trials {asked} or more")


@contextmanager
def _ray_with_room(config: Config) -> Iterator[None]:
    """A Ray session in which at least one trial fits."""
    from seekr_tune.training.session import ray_session, trials_at_once

    with ray_session():
        trials_at_once(config.training)
        yield


@contextmanager
def _study_lock(directory: Path) -> Iterator[None]:
    """Hold the study's directory; a second driver is refused by name."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / ".lock", timeout=0)
    holder = driver_path(directory)
    try:
        lock.acquire()
    except Timeout:
        by = json.loads(holder.read_text()) if holder.is_file() else {"pid": "?", "host": "?"}
        raise StudyError(
            f"{directory}: is being run by process {by['pid']} on {by['host']}; wait for it, or end it"
        ) from None
    try:
        write_atomically(holder, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
