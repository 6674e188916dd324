"""One trial of a study, with all that belongs to it: what the search, Ray, TensorBoard and the disk call it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seekr_tune.errors import StudyError
from seekr_tune.experiment import load_experiment
from seekr_tune.foreign_text import command, in_one_line, ours
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.layout import (
    experiment_path,
    log_path,
    trial_path,
    trials_path,
)
from seekr_tune.study.directory.lock import require_study
from seekr_tune.study.directory.records import read_all_records
from seekr_tune.study.life.journal_view import ToldTrial, told_trials
from seekr_tune.study.runs.console import TaskProgress
from seekr_tune.study.search.progress import configuration_values


@dataclass(frozen=True)
class TrialLinks:
    """A trial or a bound, and its runs.

    Attributes:
        directory: of the study.
        key: of the trial or bound.
        runs: the records of its runs that were begun, by replicate.
        damaged: by run, why its record cannot be read.
        told: what the journal of the search says; None for bounds, or where it cannot be read.
        params: what the search chose.
        values: by objective, its mean over the replicates; empty until all are finished.
        rule: the rule of `study.pruning`.
    """

    directory: Path
    key: str
    runs: tuple[TrialRecord, ...]
    damaged: Mapping[str, str]
    told: ToldTrial | None
    params: Mapping[str, Any]
    values: Mapping[str, float]
    rule: str

    def summary(self) -> str:
        """Lines for a terminal."""
        lines = [self.key, *self._of_trial(), *(line for run in self.runs for line in self._of_run(run))]
        return "\n".join(map(in_one_line, lines))

    def _of_trial(self) -> Iterator[str]:
        if self.told is not None:
            yield f"  Optuna trial    {self.told.number} ({self.told.state})"
            for name, value in self.told.notes.items():
                yield f"  {name:<14}  {value}"
        if self.params:
            yield f"  chosen          {', '.join(f'{path}={value}' for path, value in self.params.items())}"
        for name, mean in self.values.items():
            yield f"  {name:<14}  {mean:.4g} (mean of {len(self.runs)} replicates)"
        for run, error in self.damaged.items():
            yield f"  {run}  damaged: {error}"

    def _of_run(self, run: TrialRecord) -> Iterator[str]:
        path = trial_path(self.directory, run.trial)
        yield f"  {run.trial} (replicate {run.replicate})"
        yield f"    status        {self._status(run)}"
        yield f"    Ray trial     {run.ray_trial_id or '-'}"
        yield f"    directory     {path}"
        yield f"    config        {path / 'config.yaml'}"
        yield f"    log           {log_path(path)}, shown by `{ours('log', self.directory, run.trial)}`"
        yield f"    TensorBoard   {command('tensorboard', '--logdir', path / 'events')}"
        kept = ", ".join(checkpoint.name for checkpoint in sorted((path / "checkpoints").glob("task-*")))
        yield f"    checkpoints   {path / 'checkpoints'} ({kept or 'none kept'})"
        if run.replicate or "stream.tasks" in self.params:
            yield f"    order, seed   {', '.join(run.tasks)}; {run.config['seed']}"

    def _status(self, run: TrialRecord) -> str:
        done = f"{run.tasks_done} of {len(run.tasks)} tasks, {run.wall_seconds:.1f} s"
        progress = TaskProgress.of(run) if run.tasks_done else None
        is_scored = progress is not None and (progress.op, progress.own) != (None, None)
        shown = f"{run.status}, {done}" + (f", {progress.scored}" if progress and is_scored else "")
        if run.status == "pruned":
            last = run.tasks[run.tasks_done - 1]
            return (
                f"{shown}; the rule {self.rule!r} of study.pruning found it hopeless after {last}; "
                f"`{ours('revive', self.directory, self.key)}` takes it up again"
            )
        return shown + (", revived" if run.revived else "") + (f": {run.error}" if run.error else "")


def show_trial(directory: Path | str, key: str) -> TrialLinks:
    """All that belongs to a trial or a bound.

    Args:
        directory: of the study.
        key: of the trial, or of one of its runs.

    Raises:
        StudyError: the directory holds no study, or the study has no such trial.
    """
    directory = Path(directory).absolute()
    require_study(directory)
    config = load_experiment(experiment_path(directory))
    records, damaged = read_all_records(directory)
    wanted = {record.trial: record.configuration_key for record in records}.get(key, key)
    runs = [record for record in records if wanted in (record.configuration, record.trial)]
    broken = {run: error for run, error in damaged.items() if run == wanted or run.startswith(f"{wanted}-r")}
    told = told_trials(directory).get(wanted)
    if not runs and not broken and told is None:
        raise _no_trial(directory, key)
    return TrialLinks(
        directory=directory,
        key=wanted,
        runs=tuple(sorted(runs, key=lambda run: run.replicate)),
        damaged=broken,
        told=told,
        params=runs[0].params if runs else (told.params if told else {}),
        values=dict(zip(config.study.objectives, configuration_values(runs, config).get(wanted, ()), strict=False)),
        rule=config.study.pruning.rule,
    )


def run_directory(directory: Path, key: str) -> Path:
    """Where a run of a study lies.

    Raises:
        StudyError: the study has no such run.
    """
    if key not in _begun(directory):
        raise _no_trial(directory, key)
    return trial_path(directory, key)


def _no_trial(directory: Path, key: str) -> StudyError:
    known = _begun(directory)
    shown = f"it has {known[0]} to {known[-1]}" if known else "it has none yet"
    return StudyError(f"{directory}: has no trial {key!r}; {shown}")


def _begun(directory: Path) -> list[str]:
    return sorted(path.name for path in trials_path(directory).glob("*") if path.is_dir())
