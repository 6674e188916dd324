"""How far a study is, read from its directory: needs neither Ray nor PyTorch, and changes nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seekr_tune.analysis.configurations import nothing_learned_by, void_line
from seekr_tune.analysis.table import as_lines
from seekr_tune.analysis.worth import runs_of_records, task_worths
from seekr_tune.analysis.worth_lines import warnings, worth_table
from seekr_tune.config import Direction
from seekr_tune.errors import StudyError
from seekr_tune.experiment import load_experiment
from seekr_tune.foreign_text import duration, in_one_line, ours
from seekr_tune.records import TrialRecord
from seekr_tune.study.directory.forgotten import read_erased
from seekr_tune.study.directory.layout import experiment_path, stop_path
from seekr_tune.study.directory.lock import living_driver, require_study
from seekr_tune.study.directory.log import last_failure
from seekr_tune.study.directory.records import read_all_records, read_records, uncollected
from seekr_tune.study.directory.same_inputs import change_lines
from seekr_tune.study.directory.test_split_log import protocol_line
from seekr_tune.study.directory.units import bytes_text
from seekr_tune.study.life.journal_view import told_trials
from seekr_tune.study.life.quota import disk_usage
from seekr_tune.study.runs.console import TaskProgress, score_text
from seekr_tune.study.search.progress import best_of, configuration_values, num_waiting, pareto_front, seconds_left

__all__ = ["RunStatus", "StudyStatus", "read_records", "study_status", "watch_study"]

RunState = Literal["finished", "pruned", "failed", "running", "interrupted", "damaged", "waiting"]
STATES: tuple[RunState, ...] = ("finished", "pruned", "failed", "running", "interrupted", "damaged", "waiting")


@dataclass(frozen=True)
class RunStatus:
    """One run of a study.

    Attributes:
        trial: its key.
        role: `trial` or `bound`.
        state: `running` while the study's driver lives, `interrupted` without it.
        tasks_done, num_tasks: how far it is.
        op: mean score of the tasks learned so far, in percent; None before the first one, and where one of them was
            not evaluated.
        own: score of the task learned last, in percent; None where it was not evaluated.
        wall_seconds: time that it took.
        params: what the search chose.
        error: why it failed, or why it cannot be read.
    """

    trial: str
    role: str
    state: RunState
    tasks_done: int = 0
    num_tasks: int = 0
    op: float | None = None
    own: float | None = None
    wall_seconds: float = 0.0
    params: Mapping[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True)
class StudyStatus:
    """A study at one moment.

    Attributes:
        directory: where it lies.
        name: of the experiment.
        total: runs in all, bounds and replicates included; pruning and racing make them fewer.
        counts: runs by state; they add up to the total.
        runs: those that were begun, in the order of their keys.
        trials: configurations by what the search was told of them: RUNNING, COMPLETE, PRUNED, FAIL.
        twins: by trial that needed no run, the earlier one that means the same, whose result it has.
        objectives: what is optimised, each with its direction.
        best: the configuration that is best in the first objective, over all of its replicates; None before the first,
            and where no task was learned.
        best_value: its value.
        front: by configuration that no other one beats in every objective, its values; empty where there is no best.
        seconds_left: about how long the driver still needs; None without a driver, or before a run was finished.
        seconds_shared: time that runs were spared, because another run had done the same.
        disk_bytes: what the study's directory takes.
        is_disk_known: False where this user may not look into a part of it: it takes more then.
        protocol: what is tuned on, and whether the test split was opened.
        changes: of data and model, as they were accepted.
        erased: by training sample that was taken out, the day of it.
        driver: process that runs the study now; None if there is none.
        failure: what ended the last launch before its time; None with a driver, or where nothing did.
        is_stopping: whether it was asked to stop.
        tasks: what each task is worth, a line each under a heading.
        warnings: what is wrong with a task, or with all, and how to mend it; a line each.
    """

    directory: Path
    name: str
    total: int
    counts: Mapping[RunState, int]
    runs: tuple[RunStatus, ...]
    trials: Mapping[str, int]
    twins: Mapping[str, str]
    objectives: Mapping[str, Direction]
    best: str | None
    best_value: float | None
    front: Mapping[str, tuple[float, ...]]
    seconds_left: float | None
    seconds_shared: float
    disk_bytes: int
    is_disk_known: bool
    protocol: str
    changes: tuple[str, ...]
    erased: Mapping[str, str]
    driver: str | None
    failure: str | None
    is_stopping: bool
    tasks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def summary(self) -> str:
        """A few lines for a terminal."""
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        lines = [f"{self.name} ({self.directory}): {counts} of {self.total}", *self._details()]
        return "\n".join(map(in_one_line, lines))

    def _details(self) -> Iterator[str]:
        for run in self.runs:
            if run.state in ("running", "interrupted"):
                scored = "" if run.op is None and run.own is None else f"  {score_text(run.op, run.own)}"
                how_far = f"task {run.tasks_done}/{run.num_tasks}{scored}"
                yield f"  {run.trial}  {run.state}  {how_far}  {run.wall_seconds:.0f} s"
            elif run.state in ("failed", "damaged"):
                yield f"  {run.trial}  {run.state}  {run.error}"
        yield from (f"  WARNING: {line}" for line in (*self.changes, *self.warnings))
        yield from self._results()
        yield from (f"  {line}" for line in self.tasks)
        least = "" if self.is_disk_known else "at least "
        closed = "" if self.is_disk_known else " (this user may not look into all of it)"
        yield f"  disk used: {least}{bytes_text(self.disk_bytes)}{closed}"
        yield f"  {self.protocol}"
        if self.erased:
            yield f"  erased: {', '.join(f'{sample} ({day})' for sample, day in self.erased.items())}"
        if self.driver is not None:
            yield f"  run by {self.driver}{', stopping' if self.is_stopping else ''}"
        elif self.counts["interrupted"] or self.counts["waiting"]:
            why = "" if self.failure is None else f" ({self.failure})"
            yield f"  nobody runs it{why}; go on with `{ours('resume', self.directory)}`"

    def twin_lines(self) -> Iterator[str]:
        """One line for each trial that needed no run."""
        for twin, earlier in self.twins.items():
            yield f"{twin} means the same as {earlier} and has its result, without a run"

    def _results(self) -> Iterator[str]:
        if self.trials:
            yield f"  trials: {', '.join(f'{count} {state.lower()}' for state, count in self.trials.items())}"
        yield from (f"  {line}" for line in self.twin_lines())
        if self.best is not None:
            yield f"  best {next(iter(self.objectives))}: {self.best_value:.4g} ({self.best})"
        if len(self.objectives) > 1 and self.front:
            shown = (f"{key} ({', '.join(f'{value:.4g}' for value in values)})" for key, values in self.front.items())
            yield f"  Pareto front ({', '.join(self.objectives)}): {'; '.join(shown)}"
        if self.seconds_left:
            yield f"  time left: about {duration(self.seconds_left)}"
        if self.seconds_shared:
            yield f"  time saved by sharing: {duration(self.seconds_shared)}"


@uncollected()
def study_status(directory: Path | str) -> StudyStatus:
    """How far a study is.

    Raises:
        StudyError: the directory holds no study.
        ConfigError: its experiment is damaged.
    """
    directory = Path(directory).absolute()
    require_study(directory)
    config = load_experiment(experiment_path(directory))
    driver = living_driver(directory)
    records, damaged = read_all_records(directory)
    runs = [_run_status(record, driver is not None) for record in records]
    runs += [RunStatus(key, key.partition("-")[0], "damaged", error=error) for key, error in damaged.items()]
    trials = told_trials(directory)
    told = {key for key, trial in trials.items() if trial.has_ended}
    waiting = max(0, num_waiting(records, config, told) - len(damaged))
    counts = Counter(run.state for run in runs)
    void = nothing_learned_by(records)
    values = configuration_values(records, config) if void is None else {}
    directions = list(config.study.objectives.values())
    worths = task_worths(runs_of_records(records))
    best, usage = best_of(values, directions[0]), disk_usage(directory)
    return StudyStatus(
        directory=directory,
        name=config.name,
        total=len(runs) + waiting,
        counts={**{state: counts[state] for state in STATES}, "waiting": waiting},
        runs=tuple(sorted(runs, key=lambda run: run.trial)),
        trials=Counter(trial.state for trial in trials.values()),
        twins={key: str(trial.notes["same_as"]) for key, trial in trials.items() if "same_as" in trial.notes},
        objectives=config.study.objectives,
        best=best,
        best_value=values[best][0] if best else None,
        front=pareto_front(values, directions),
        seconds_left=seconds_left(records, waiting, driver.slots or 1) if driver else None,
        seconds_shared=sum(row.shared_seconds for record in records for row in record.timing),
        disk_bytes=usage.total,
        is_disk_known=usage.is_known,
        protocol=_protocol(directory),
        changes=tuple(change_lines(directory)),
        erased={entry.sample: entry.when.partition("T")[0] for entry in read_erased(directory)},
        driver=None if driver is None else str(driver),
        failure=None if driver else last_failure(directory),
        is_stopping=stop_path(directory).exists(),
        tasks=tuple(as_lines(worth_table(worths))),
        warnings=(*([] if void is None else [void_line(void)]), *warnings(worths)),
    )


def watch_study(directory: Path | str, seconds: float, show: Callable[[str], None]) -> None:
    """Show how far a study is every so many seconds, until nobody runs it.

    Raises:
        StudyError: the directory holds no study.
        ConfigError: its experiment is damaged.
    """
    while True:
        status = study_status(directory)
        show(status.summary())
        if status.driver is None:
            return
        time.sleep(seconds)


def _run_status(record: TrialRecord, is_driven: bool) -> RunStatus:
    progress = TaskProgress.of(record) if record.tasks_done else None
    state: RunState = "running" if is_driven else "interrupted"
    if record.status != "running":
        state = record.status
    return RunStatus(
        trial=record.trial,
        role=record.role,
        state=state,
        tasks_done=record.tasks_done,
        num_tasks=len(record.tasks),
        op=progress.op if progress else None,
        own=progress.own if progress else None,
        wall_seconds=record.wall_seconds,
        params=record.params,
        error=record.error,
    )


def _protocol(directory: Path) -> str:
    try:
        return protocol_line(directory) or ""
    except StudyError as error:
        return str(error)
