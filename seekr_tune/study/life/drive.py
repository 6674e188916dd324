"""Driving a queue of runs to its end: what a study and its final runs have in common.

Each run that has ended goes into the ledger, at once where that is quickly done. Somebody who asks to stop, a full
disk, a second Ctrl-C: whatever ends a launch, the ledger is written and the queue can be driven again.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from seekr_tune.cluster.session import cluster_session, ray_session, trials_at_once
from seekr_tune.config import Config
from seekr_tune.config.plugins import imports
from seekr_tune.errors import Stopped, StudyError
from seekr_tune.foreign_text import ours
from seekr_tune.leftovers import remove_remains
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.disk import refusing_disk_faults
from seekr_tune.study.directory.layout import cache_folders, cache_path, stop_path, trial_path
from seekr_tune.study.directory.links import leads_elsewhere, require_no_links_below
from seekr_tune.study.directory.lock import StudyLock
from seekr_tune.study.directory.log import LAUNCH_FAILED, LAUNCH_STARTED
from seekr_tune.study.directory.records import read_all_records
from seekr_tune.study.life.ledger_writer import LedgerWriter
from seekr_tune.study.life.quota import enforce_quota
from seekr_tune.study.life.stopping import StopFile, stopped_by_signals
from seekr_tune.study.runs.console import ProgressConsole
from seekr_tune.study.runs.run_directory import tidy_ended

if TYPE_CHECKING:  # a study with nothing left to run needs no Ray
    from seekr_tune.study.life.searcher import RunQueue

Judge = Callable[[TrialRecord], bool]

_logger = logging.getLogger(__name__)


def drive(
    queue: RunQueue,
    directory: Path,
    ledger_directory: Path,
    console: Console | None = None,
    address: str | None = None,
    *,
    lock: StudyLock | None = None,
    judge: Judge | None = None,
    again: str = "resume",
) -> None:
    """Run what is left in a queue. The caller holds the study.

    Args:
        queue: the runs; their directories may lie elsewhere than the study's other runs.
        directory: of the study, absolute: where a request to stop is looked for.
        ledger_directory: gets `ledger/` with the queue's runs.
        console: where to show progress.
        address: of a running Ray cluster, HOST:PORT or `auto`; None: this machine.
        lock: told how many runs are done at the same time.
        judge: stops hopeless trials after a task.
        again: the command of ours that goes on with the queue.

    Raises:
        Stopped: somebody asked to stop.
        StudyError: a disk is full or fails, or the machine is too small for one run.
        UserError: the data, the model or a directory cannot be used; the rest can be run later.
    """
    ledger = LedgerWriter(queue.directory, ledger_directory)
    with _launch(queue):
        with refusing_disk_faults(directory, again):
            _tidy(queue, directory)
            try:
                if not queue.is_done:
                    ended = sum(record.status != "running" for record in read_all_records(queue.directory)[0])
                    total = ended + queue.num_left
                    with ProgressConsole(console, total, ended) as progress, cluster_session(address):
                        for line in imports(queue.config.model_dump()):
                            progress.say(line)
                        _run_left(queue, directory, progress, ledger, lock, judge)
            finally:
                if lock is not None:  # else whatever fails in a directory that was moved would be said instead
                    lock.require_there()
                ledger.write()
            _tidy_ended(queue)  # a run that an orphan of the launch before still held at first
        replacement = None if lock is None else lock.claim.replaced_by()
        if replacement is not None:
            raise StudyError(
                f"{directory}: {replacement} has taken over this study; this process has left it to that one"
            )
        if not queue.is_done:
            raise Stopped(f"{directory}: stopped; go on with `{ours(again, directory)}`")


@contextmanager
def _launch(queue: RunQueue) -> Iterator[None]:
    """Say in the study's log when a launch begins, and why it ends."""
    fields = {"runs_left": queue.num_left, "host": socket.gethostname(), "process": os.getpid()}
    _logger.info(LAUNCH_STARTED, extra={"fields": fields})
    try:
        yield
    except Stopped:
        _logger.info("launch stopped")
        raise
    except BaseException as error:
        _logger.error(LAUNCH_FAILED, extra={"fields": {"error": f"{type(error).__name__}: {error}"}})
        raise
    _logger.info("launch finished")


def _tidy(queue: RunQueue, directory: Path) -> None:
    """What a launch that was killed could not do any more."""
    cache = _cache_of(directory, queue.config)
    for shared in [] if cache is None else cache_folders(cache):
        require_no_links_below(shared)
        remove_remains(shared)
    remove_remains(directory)
    _tidy_ended(queue)
    if queue.is_done:  # else the run that ends next sees to it, which takes less room then than it does now
        enforce_quota(directory, queue.config)


def _tidy_ended(queue: RunQueue) -> None:
    for record in read_all_records(queue.directory)[0]:
        place = trial_path(queue.directory, record.trial)
        if record.status in ("finished", "pruned") and not leads_elsewhere(place, queue.directory):
            tidy_ended(place)


def _run_left(
    queue: RunQueue,
    directory: Path,
    progress: ProgressConsole,
    ledger: LedgerWriter,
    lock: StudyLock | None,
    judge: Judge | None,
) -> None:
    from seekr_tune.study.life.tuner import Launch, run_queue

    def on_finished() -> None:
        ledger.write_when_due()
        enforce_quota(directory, queue.config)

    stop = StopFile(stop_path(directory), None if lock is None else lock.claim)
    with stopped_by_signals(stop, progress.say), room_in_ray(queue.config) as room:
        limit = min(room, queue.config.study.max_concurrent or room)
        if lock is not None:
            lock.note_slots(limit)
        launch = Launch(queue.config, queue.directory, stop, _cache_of(directory, queue.config), judge)
        progress.say(f"{queue.directory}: {queue.num_left} of {progress.total} runs to go, {limit} at a time")
        run_queue(queue, launch, limit, progress, on_finished, _nothing if lock is None else lock.require_there)


def _nothing() -> None:
    """Of a queue that nobody holds."""


@contextmanager
def room_in_ray(config: Config) -> Iterator[int]:
    """A Ray session in which at least one run fits; how many."""
    with ray_session():
        yield trials_at_once(config.training)


def _cache_of(directory: Path, config: Config) -> Path | None:
    """What runs share needs a disk that they all see."""
    if not config.study.share_first_stage or config.training.storage_path is not None:
        return None
    return cache_path(directory, config.study.cache).absolute()
