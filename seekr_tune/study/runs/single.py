"""One run of an experiment, without a search."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from seekr_tune.analysis.ledger import write_ledger
from seekr_tune.cluster.session import cluster_session
from seekr_tune.cluster.strategy import local_workers
from seekr_tune.config import Config
from seekr_tune.config.plugins import imports
from seekr_tune.errors import StudyError, UserError
from seekr_tune.experiment import fingerprint, with_values
from seekr_tune.foreign_text import ours
from seekr_tune.methods.registry import with_needs
from seekr_tune.records import TrialRecord, read_record, read_steps
from seekr_tune.records.heads import read_heads
from seekr_tune.study.directory.layout import extending_path, is_run, is_study, ray_path, storage_path
from seekr_tune.study.directory.links import require_no_links
from seekr_tune.study.directory.placement import require_nothing_inside, require_outside
from seekr_tune.study.directory.provenance import read_provenance, write_provenance
from seekr_tune.study.directory.same_inputs import accepted_changes, require_unchanged
from seekr_tune.study.runs.console import ProgressConsole, TaskProgress
from seekr_tune.study.runs.group import run_in_group
from seekr_tune.study.runs.outcome import run_failed
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.run_directory import TrialFiles, begun_settings
from seekr_tune.study.runs.trial import opened, run_trial
from seekr_tune.study.runs.watch import watched

if TYPE_CHECKING:  # a run in this process needs none
    from seekr_tune.store import Store


def run_experiment(
    config: Config,
    directory: Path | str,
    *,
    name: str | None = None,
    address: str | None = None,
    console: Console | None = None,
    stop_asked: Callable[[], bool] | None = None,
    accept_change: bool = False,
    notes: Sequence[str] = (),
) -> TrialRecord:
    """One run of an experiment, without a search; called again on the same directory it goes on.

    With `training.workers: 0` it runs in this process, without Ray.

    Args:
        config: the experiment.
        directory: the run's directory; gets a ledger of its own.
        name: of the run in its ledger; None: that of the directory.
        address: of a running Ray cluster, HOST:PORT or `auto`; None: this machine.
        console: where to show progress.
        stop_asked: asked between steps: whether to save what is done, and end. The record is then that of a run that
            is `running`. Must be picklable with workers.
        accept_change: go on although data or model changed since the run was begun; that is noted.
        notes: lines to warn of when it begins, behind what may be refused.

    Raises:
        StudyError: the directory holds a study or a run of other settings, or is inside of one, the machine is too
            small, or there is no cluster at the address.
        UserError: the data, the model or the settings cannot be used.
    """
    directory, config = Path(directory).absolute(), with_needs(config)
    if directory.name != extending_path(directory).name:  # an update is learned inside of its run
        require_outside(directory, "a run")
    if not (is_run(directory) or is_study(directory)):
        require_nothing_inside(directory, "a run")
    if address is not None and config.training.workers == 0:
        raise StudyError(
            f"address {address!r}: with training.workers 0 the run would stay in this process and use nothing of the "
            "cluster; set training.workers to 1 or more, or leave the address out"
        )
    if is_study(directory):
        raise StudyError(f"{directory}: holds a study; go on with `{ours('resume', directory)}`, or choose another")
    config = _without_erased(directory, config)
    with cluster_session(address), ProgressConsole(console, total=1) as progress:
        changes = _known_inputs(directory, config, accept_change)
        progress.warn_of(notes)
        for line in imports(config.model_dump()):
            progress.say(line)
        request = TrialRequest(key=name or directory.name, role="run", accepted_changes=changes)
        try:
            record = _run(config, directory, request, progress, stop_asked)
        except UserError:
            raise
        except Exception as error:
            run_failed(directory, config, request, error)
            raise
        if record.status == "running":
            return record
        steps = read_steps(directory / "steps.jsonl")
        progress.run_finished(record)
    heads = read_heads(directory / "result.json")
    write_ledger(directory, [record], {record.trial: steps}, {record.trial: heads})
    return record


def _run(
    config: Config,
    directory: Path,
    request: TrialRequest,
    progress: ProgressConsole,
    stop_asked: Callable[[], bool] | None,
) -> TrialRecord:
    def show(record: TrialRecord) -> None:
        progress.task_finished(TaskProgress.of(record))

    if config.training.workers == 0:
        workers = local_workers(config)
        return run_trial(config, directory, request, workers=workers, on_task=show, stop_asked=stop_asked)
    with opened(TrialFiles(directory, config)) as earlier:  # before Ray is started for nothing
        if earlier is not None and earlier.status == "finished":
            return earlier
        home = _home(directory, config)
    from seekr_tune.cluster.session import ray_session, trials_at_once

    shutil.rmtree(ray_path(directory), ignore_errors=True)  # of earlier launches; nobody reads it
    with ray_session(), watched(directory / "result.json", show):
        trials_at_once(config.training)
        run_in_group(config, directory, request, home=home, stop_asked=stop_asked)
    return read_record(directory / "result.json")


def _known_inputs(directory: Path, config: Config, accept: bool) -> int:
    """Note data and model of a run that begins; compare them where it goes on. How often changes were accepted."""
    if not is_run(directory):
        require_no_links(directory)
        write_provenance(directory, config)
        return 0
    result = directory / "result.json"
    if result.is_file() and read_record(result).status == "finished":  # nothing is learned any more
        others = fingerprint(begun_settings(directory)) != fingerprint(config)  # which is refused for what it is
        if accept or others:
            return accepted_changes(read_provenance(directory))
    return require_unchanged(directory, config, accept=accept)


def _without_erased(directory: Path, config: Config) -> Config:
    """What was erased from a run stays out of it, also where the experiment file does not know."""
    if not is_run(directory):
        return config
    erased = begun_settings(directory).stream.erased
    return with_values(config, {"stream.erased": {task: rows.model_dump() for task, rows in erased.items()}})


def _home(directory: Path, config: Config) -> Store | None:
    """Where the run stands at the store, if there is one."""
    if config.training.storage_path is None and not storage_path(directory).is_file():
        return None
    from seekr_tune.study.runs.storage import home_of

    return home_of(directory, config)
