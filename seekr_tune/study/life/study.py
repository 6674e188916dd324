"""A study from start to end: start it, resume it, take a trial up again, look at it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from seekr_tune.atomic_files import write_atomically
from seekr_tune.cluster.session import cluster_session
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import differing, dump_config, flatten, load_experiment, with_values
from seekr_tune.foreign_text import ours
from seekr_tune.methods.registry import with_needs
from seekr_tune.study.directory.disk import refusing_disk_faults
from seekr_tune.study.directory.layout import (
    experiment_path,
    is_run,
    is_study,
    journal_path,
    space_path,
)
from seekr_tune.study.directory.lock import StudyLock, require_study
from seekr_tune.study.directory.log import logged_in
from seekr_tune.study.directory.placement import require_nothing_inside, require_outside
from seekr_tune.study.directory.provenance import write_provenance
from seekr_tune.study.directory.same_inputs import require_same_special_tokens, require_unchanged
from seekr_tune.study.life.drive import drive, room_in_ray
from seekr_tune.study.life.status import StudyStatus, study_status
from seekr_tune.study.runs.console import ProgressConsole
from seekr_tune.study.search.judge import Judge
from seekr_tune.study.search.protocol import require_protocol
from seekr_tune.study.search.queue import TrialQueue, open_study
from seekr_tune.study.search.space import Space, load_space, space_of
from seekr_tune.study.search.warm_start import enqueue as enqueue_file
from seekr_tune.study.search.warm_start import read_configurations, require_comparable_studies
from seekr_tune.study.search.warm_start import warm_start as learn_from

__all__ = ["resume_study", "revive_trial", "start_study", "study_status"]

_RESUME = "resume"


def start_study(
    config: Config,
    experiment: Path | Space,
    directory: Path | str,
    *,
    address: str | None = None,
    console: Console | None = None,
    enqueue: Path | None = None,
    warm_start: Sequence[Path] = (),
    notes: Sequence[str] = (),
) -> StudyStatus:
    """Run a new study to its end.

    Args:
        config: the experiment; `study` says what is searched and how many trials are run.
        experiment: the experiment file, which `study.space` is relative to; or the space itself.
        directory: the study's directory; it must not hold a study or a run.
        address: of a running Ray cluster, HOST:PORT or `auto`; None: this machine.
        console: where to show progress.
        enqueue: a file of configurations that are tried first.
        warm_start: directories of finished studies that the sampler learns from.
        notes: lines to warn of when it begins, behind what may be refused.

    Raises:
        StudyError: the directory is taken, or inside of a study or a run, the machine is too small for one trial, no
            cluster is at the address, or a disk is full or fails.
        ConfigError: the space, the objectives, the protocol or a configuration of `enqueue` are wrong.
        DataError: prompts of the test split occur in others.
        Stopped: somebody asked to stop.
    """
    directory = Path(directory).absolute()
    require_outside(directory, "a study")
    if isinstance(experiment, Space):
        space = experiment
        space.require_fits(config)
    else:
        space = space_of(config, experiment)
    require_protocol(config)
    if enqueue is not None:
        read_configurations(space, config, enqueue)  # before anything is written
    require_comparable_studies(space, config, warm_start)
    _require_no_run(directory)  # asked before the lock is taken, too: it would leave files in the run
    config = with_values(with_needs(config), {"study.space": space_path(directory).name})
    with cluster_session(address), StudyLock(directory) as lock:
        _require_free(directory, config, space)
        with refusing_disk_faults(directory, _RESUME), room_in_ray(config), logged_in(directory):
            _begin(directory, config, space, enqueue, warm_start)
            search = open_study(directory, config, space)
            ProgressConsole(console, 0).warn_of(notes)
            _drive(directory, TrialQueue(search, space, config, directory), console, lock)
    return study_status(directory)


def resume_study(
    directory: Path | str,
    *,
    trials: int | None = None,
    address: str | None = None,
    console: Console | None = None,
    enqueue: Path | None = None,
    accept_change: bool = False,
) -> StudyStatus:
    """Go on with a study: its unfinished runs first, then new trials up to the total.

    Args:
        directory: the study's directory.
        trials: new total of trials; None keeps it.
        address: of a running Ray cluster, HOST:PORT or `auto`; None: this machine.
        console: where to show progress.
        enqueue: a file of configurations that are tried next; they count in the total.
        accept_change: go on although data or model changed since the study was begun; that is noted.

    Raises:
        StudyError: no study is there, another process runs it, its files, data or model were changed, the total is too
            small, no cluster is at the address, a disk is full or fails, or new runs would have other special tokens
            than those that are there.
        ConfigError: a configuration of `enqueue` is wrong.
        Stopped: somebody asked to stop.
    """
    directory = _study_at(directory)
    with (
        cluster_session(address),
        StudyLock(directory) as lock,
        refusing_disk_faults(directory, _RESUME),
        logged_in(directory),
    ):
        config, space = load_experiment(experiment_path(directory)), load_space(space_path(directory))
        open_study(directory, config, space, recount=False)  # refuses what was edited
        require_unchanged(directory, config, accept=accept_change)
        if trials is not None and trials != config.study.trials:
            _require_total(directory, config, space, trials)
            config = with_values(config, {"study.trials": trials})
            write_atomically(experiment_path(directory), dump_config(config).encode())
        search = open_study(directory, config, space)
        if enqueue is not None:
            enqueue_file(search, space, config, enqueue)
        queue = TrialQueue(search, space, config, directory)
        if not queue.is_done:
            require_same_special_tokens(directory, config)
        _drive(directory, queue, console, lock)
    return study_status(directory)


def revive_trial(directory: Path | str, key: str) -> None:
    """Take up a trial that was pruned: the next `resume` goes on with it, and does not prune it again.

    Raises:
        StudyError: no study is there, another process runs it, or the trial was not pruned.
    """
    from seekr_tune.study.search.queue import revive

    directory = _study_at(directory)
    with StudyLock(directory), refusing_disk_faults(directory, _RESUME):
        revive(directory, key)


def _study_at(directory: Path | str) -> Path:
    directory = Path(directory).absolute()
    require_study(directory, f"start one with `{ours('sweep', 'EXPERIMENT', '--out', directory)}`")
    return directory


def _begin(directory: Path, config: Config, space: Space, enqueue: Path | None, warm_start: Sequence[Path]) -> None:
    """Write what makes a directory a study, the experiment last: without it there is none, and it is begun anew."""
    journal = journal_path(directory)
    for remains in journal.parent.glob(f"{journal.name}*"):
        remains.unlink()
    try:
        study = open_study(directory, config, space)
        if warm_start:
            learn_from(study, space, config, warm_start)
        if enqueue is not None:
            enqueue_file(study, space, config, enqueue)
        write_provenance(directory, config)
        write_atomically(space_path(directory), space.dump().encode())
        write_atomically(experiment_path(directory), dump_config(config).encode())
    finally:
        if not is_study(directory):
            journal.unlink(missing_ok=True)
            space_path(directory).unlink(missing_ok=True)


def _drive(directory: Path, queue: TrialQueue, console: Console | None, lock: StudyLock) -> None:
    judge = Judge(queue.config, directory) if queue.config.study.pruning.rule != "none" else None
    drive(queue, directory, directory, console, lock=lock, judge=judge)


def _require_no_run(directory: Path) -> None:
    if is_run(directory):
        raise StudyError(f"{directory}: holds a single run; choose another directory for the study")
    if not is_study(directory):
        require_nothing_inside(directory, "a study")


def _require_free(directory: Path, config: Config, space: Space) -> None:
    """Refuse a directory that holds something, and say how the study there differs from the one that was asked for."""
    _require_no_run(directory)
    if not is_study(directory):
        return
    changed = differing(flatten(load_experiment(experiment_path(directory))), flatten(config))
    if load_space(space_path(directory)).dump() != space.dump():
        changed.append("the search space")
    if not changed:
        raise StudyError(f"{directory}: holds a study already; go on with `{ours(_RESUME, directory)}`")
    raise StudyError(
        f"{directory}: holds a study already, and {', '.join(changed)} differ{'s' * (len(changed) == 1)} from it; "
        f"put that back and go on with `{ours(_RESUME, directory)}` (--trials N for another total), or choose another "
        "--out"
    )


def _require_total(directory: Path, config: Config, space: Space, trials: int) -> None:
    """Refuse a total below what the search has proposed already."""
    asked = TrialQueue(open_study(directory, config, space), space, config, directory).num_asked
    if trials < asked:
        raise StudyError(f"{directory}: has {asked} trials already; give --trials {asked} or more")
