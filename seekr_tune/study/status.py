"""How far a study is, read from its directory: needs neither Ray nor Optuna."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seekr_tune.analysis.record import TrialRecord, read_record
from seekr_tune.errors import StudyError
from seekr_tune.experiment import load_experiment
from seekr_tune.study.console import TaskProgress
from seekr_tune.study.layout import driver_path, experiment_path, is_study, trials_path
from seekr_tune.study.objectives import objective_value

RunState = Literal["finished", "failed", "running", "interrupted", "waiting"]


@dataclass(frozen=True)
class RunStatus:
    """One run of a study.

    Attributes:
        trial: its key.
        role: `trial` or `bound`.
        state: `running` while the study's driver lives, `interrupted` without it.
        tasks_done, num_tasks: how far it is.
        op: mean score of the tasks learned so far, in percent; None before the first one.
        wall_seconds: time that it took.
        params: what the search chose.
        error: why it failed.
    """

    trial: str
    role: str
    state: RunState
    tasks_done: int
    num_tasks: int
    op: float | None
    wall_seconds: float
    params: Mapping[str, Any]
    error: str | None


@dataclass(frozen=True)
class StudyStatus:
    """A study at one moment.

    Attributes:
        directory: where it lies.
        name: of the experiment.
        total: runs in all, bounds included.
        counts: runs by state; they add up to the total.
        runs: those that were begun, in the order of their keys.
        objective: the first objective.
        best: the finished trial that is best in it; None before the first one.
        best_value: its value.
        driver: process that runs the study now, as `pid on host`; None if there is none.
    """

    directory: Path
    name: str
    total: int
    counts: Mapping[RunState, int]
    runs: tuple[RunStatus, ...]
    objective: str
    best: str | None
    best_value: float | None
    driver: str | None

    def summary(self) -> str:
        """A few lines for a terminal."""
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        return "\n".join([f"{self.name} ({self.directory}): {counts} of {self.total}", *self._details()])

    def _details(self) -> Iterator[str]:
        for run in self.runs:
            if run.state in ("running", "interrupted"):
                op = "" if run.op is None else f"  op {run.op:.1f} %"
                yield f"  {run.trial}  {run.state}  task {run.tasks_done}/{run.num_tasks}{op}  {run.wall_seconds:.0f} s"
            elif run.state == "failed":
                yield f"  {run.trial}  failed  {run.error}"
        if self.best is not None:
            yield f"  best {self.objective}: {self.best_value:.4g} ({self.best})"
        if self.driver is not None:
            yield f"  run by process {self.driver}"
        elif self.counts["interrupted"] or self.counts["waiting"]:
            yield f"  nobody runs it; go on with `seekr-tune resume {self.directory}`"


def study_status(directory: Path | str) -> StudyStatus:
    """How far a study is.

    Raises:
        StudyError: the directory holds no study, or one of its records is damaged.
    """
    directory = Path(directory).absolute()
    if not is_study(directory):
        raise StudyError(f"{directory}: holds no study; name the directory that `seekr-tune sweep` printed")
    config = load_experiment(experiment_path(directory))
    driver = _driver(directory)
    records = read_records(directory)
    runs = tuple(_run_status(record, driver is not None) for record in records)
    total = config.study.trials + len(config.study.bounds)
    counts = Counter(run.state for run in runs)
    objective, direction = next(iter(config.study.objectives.items()))
    values = {
        record.trial: value
        for record in records
        if record.role == "trial"
        and record.status == "finished"
        and (value := objective_value(record, objective)) is not None
    }
    choose = max if direction == "maximize" else min
    best = choose(values, key=lambda key: values[key]) if values else None
    return StudyStatus(
        directory=directory,
        name=config.name,
        total=total,
        counts={
            "finished": counts["finished"],
            "failed": counts["failed"],
            "running": counts["running"],
            "interrupted": counts["interrupted"],
            "waiting": max(0, total - len(runs)),
        },
        runs=runs,
        objective=objective,
        best=best,
        best_value=values[best] if best else None,
        driver=driver,
    )


def read_records(directory: Path) -> list[TrialRecord]:
    """The records of a study's runs, in the order of their keys."""
    return [read_record(path) for path in sorted(trials_path(directory).glob("*/result.json"))]


def _run_status(record: TrialRecord, is_driven: bool) -> RunStatus:
    state: RunState = "running" if is_driven else "interrupted"
    if record.status in ("finished", "failed"):
        state = "finished" if record.status == "finished" else "failed"
    return RunStatus(
        trial=record.trial,
        role=record.role,
        state=state,
        tasks_done=record.tasks_done,
        num_tasks=len(record.tasks),
        op=TaskProgress.of(record).op if record.tasks_done else None,
        wall_seconds=record.wall_seconds,
        params=record.params,
        error=record.error,
    )


def _driver(directory: Path) -> str | None:
    try:
        holder = json.loads(driver_path(directory).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if holder["host"] == socket.gethostname() and not _is_alive(holder["pid"]):
        return None
    return f"{holder['pid']} on {holder['host']}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
