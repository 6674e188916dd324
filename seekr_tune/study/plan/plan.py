"""What a study will cost, told before anything of it starts: stages, steps, time and disk.

Counts are exact for the runs that are certain (bounds, and settings that are not searched). What is searched is not
known beforehand, so as many random configurations of the space as there will be trials, drawn with a fixed seed, stand
for those that the sampler will propose. Times are counts x what a short calibration measured. Everything is an upper
bound in one respect: pruning and racing may spare a part of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.samplers import RandomSampler
from rich.console import Console

from seekr_tune.config import Config, TrainingConfig
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import with_values
from seekr_tune.foreign_text import duration
from seekr_tune.quiet_libraries import hear_libraries
from seekr_tune.study.directory.layout import bound_key, run_key, trial_key
from seekr_tune.study.directory.units import bytes_text
from seekr_tune.study.plan.calibration import Calibration, calibrate
from seekr_tune.study.plan.disk_plan import DiskPlan, disk_plan
from seekr_tune.study.plan.workload import RunWork, Work, run_work, shared_work
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.search.protocol import replicates, settings_of_bounds
from seekr_tune.study.search.resolution import Resolver, refusal
from seekr_tune.study.search.space import Space

_SEED = 0
"""Of the random configurations that stand for those of the search."""

_MOST_REFUSED = 100
"""Draws for each trial, after which the space is taken to be as good as empty."""


@dataclass(frozen=True)
class Plan:
    """A study, before it starts.

    Attributes:
        name: of the experiment.
        num_tasks: that each run learns.
        trials, replicates: configurations, and runs of each.
        bounds: runs of the references.
        trial: what one run of a trial has to do, on average.
        total: what all runs would do, each on its own.
        spared: the part of it that is computed once for several runs.
        slots: runs at the same time on this machine.
        workers: processes of one run.
        disk: what it leaves.
        device: where times were measured.
        may_stop_early: whether pruning or racing may spare a part.
    """

    name: str
    num_tasks: int
    trials: int
    replicates: int
    bounds: int
    trial: Work
    total: Work
    spared: Work
    slots: int
    workers: int
    disk: DiskPlan
    device: str
    may_stop_early: bool

    @property
    def num_runs(self) -> int:
        """Runs in all, at most."""
        return self.trials * self.replicates + self.bounds

    @property
    def to_do(self) -> Work:
        """What is left when shared parts are computed once."""
        return self.total - self.spared

    @property
    def wall_seconds(self) -> float:
        """Until the study is done, with all slots busy and the work of a run split evenly over its workers."""
        at_once = min(self.slots, self.num_runs)
        longest = self.trial.seconds
        return max(self.to_do.seconds / at_once, longest) / self.workers

    def summary(self) -> str:
        """A table and a few lines for a terminal."""
        return "\n".join([*self._head(), *self._table(), *self._times(), *self._disk()])

    def _head(self) -> Iterator[str]:
        runs = f"{self.trials} trials x {self.replicates} replicates + {self.bounds} bounds = {self.num_runs} runs"
        yield f"{self.name}: {runs} of {self.num_tasks} tasks"

    def _table(self) -> Iterator[str]:
        yield f"{'':26}{'one trial':>14}{'all runs':>14}{'shared':>14}{'to do':>14}"
        for label, name in _ROWS.items():
            works = (self.trial, self.total, self.spared, self.to_do)
            numbers = "".join(f"{round(getattr(work, name)):>14,}" for work in works)
            yield f"{label:26}{numbers}"
        seconds = (work.seconds for work in (self.trial, self.total, self.spared, self.to_do))
        yield f"{'time of one device':26}" + "".join(f"{duration(one):>14}" for one in seconds)

    def _times(self) -> Iterator[str]:
        at_once = min(self.slots, self.num_runs)
        split = f", {self.workers} workers each" if self.workers > 1 else ""
        most = "; pruning and racing may spare a part" if self.may_stop_early else ""
        yield f"wall time: about {duration(self.wall_seconds)} with {at_once} runs at a time{split}{most}"
        yield f"measured on this machine in one process ({self.device}); starting Ray and processes comes on top"

    def _disk(self) -> Iterator[str]:
        disk, free = self.disk, bytes_text(self.disk.free)
        parts = f"{bytes_text(disk.runs)} of all runs, {bytes_text(disk.working)} while they work"
        yield f"disk: {parts}, {bytes_text(disk.cache)} of shared stages; {free} are free"
        if disk.quota is not None and disk.runs + disk.working > disk.quota:
            quota = bytes_text(disk.quota)
            yield f"  above study.disk_gigabytes ({quota}): checkpoints that nobody needs will be removed"
        if disk.quota is not None and disk.least > disk.quota:
            yield (
                f"  warning: {bytes_text(disk.least)} cannot be removed, so the study would stop; raise "
                "study.disk_gigabytes, or lower training.checkpoints_kept"
            )
        if disk.peak > disk.free:
            mend = "make room" if disk.quota is not None else "make room, or set study.disk_gigabytes"
            yield f"  warning: {bytes_text(disk.peak)} do not fit into the {free} that are free; {mend}"


_ROWS = {
    "stages of training": "stages",
    "steps on new samples": "new_steps",
    "steps on replayed samples": "replay_steps",
    "stored samples read": "readings",
    "answers generated": "prompts",
}


def plan_study(config: Config, space: Space, console: Console | None = None, *, directory: Path | None = None) -> Plan:
    """What a study will cost. Nothing is written.

    Args:
        config: the experiment, ready to be run.
        space: what it searches.
        console: where to say what is being done.
        directory: where the study will lie, for the room on its disk; None: here.

    Raises:
        UserError: the data, the model or the settings cannot be used.
    """
    trials, bounds = trial_configs(config, space), bound_configs(config)
    representative = next((one for one in trials if one.stored_percent > 0), trials[0])
    if console is not None:
        console.print("calibrating: a few steps of each kind, nothing is written", highlight=False)
    measured = calibrate(representative)
    return make_plan(config, trials, bounds, measured, _free(directory or Path()), _slots(config.training))


def make_plan(
    config: Config, trials: Sequence[Config], bounds: Sequence[Config], measured: Calibration, free: float, slots: int
) -> Plan:
    """The arithmetic of `plan_study`.

    Args:
        config: the experiment.
        trials, bounds: each run as it sees the experiment.
        measured: sizes of the data, and how long each part takes.
        free: bytes on the disk.
        slots: runs that the machine has room for.
    """
    runs = [run_work(one, measured.sizes, measured.rates) for one in (*trials, *bounds)]
    total = _sum(runs)
    study = config.study
    count = study.trials
    at_once = min(slots, study.max_concurrent or slots)
    return Plan(
        name=config.name,
        num_tasks=len(trials[0].stream.tasks),
        trials=count,
        replicates=len(trials) // count,
        bounds=len(bounds),
        trial=_sum(runs[: len(trials)]) * (1 / len(trials)),
        total=total,
        spared=shared_work(runs) if study.share_first_stage and config.training.storage_path is None else Work(),
        slots=at_once,
        workers=max(1, config.training.workers),
        disk=disk_plan(config, (*trials, *bounds), runs, measured, free, at_once),
        device=measured.device,
        may_stop_early=study.pruning.rule != "none" or (study.racing.rule != "none" and len(trials) > count),
    )


def trial_configs(config: Config, space: Space) -> list[Config]:
    """Runs of as many configurations as the study has trials: the published one, then random ones, all replicates."""
    settings = replicates(config)
    requests = [
        TrialRequest(
            run_key(trial_key(number), replicate), "trial", values, number, trial_key(number), replicate, setting
        )
        for number, values in zip(range(config.study.trials), _drawn(config, space), strict=False)
        for replicate, setting in enumerate(settings)
    ]
    return [request.config(config) for request in requests]


def _drawn(config: Config, space: Space) -> Iterator[dict[str, Any]]:
    """Endless random configurations that keep the constraints; the published one, if there is one, comes first."""
    first = with_values(config, replicates(config)[0], origin="study.replicates")
    resolver, space = Resolver(first), space.within(first)
    hear_libraries()
    study = optuna.create_study(sampler=RandomSampler(seed=_SEED))
    if space.published():
        study.enqueue_trial(space.published())
    refused: str | None = None
    for _ in range(_MOST_REFUSED * config.study.trials):
        values = space.suggest(study.ask())
        refused = refusal(resolver, space.constraints, values)
        if refused is None:
            yield values
    raise ConfigError(f"{space.origin}: almost no random configuration can be tried (the last one {refused}); widen it")


def bound_configs(config: Config) -> list[Config]:
    """The runs of the references."""
    settings = settings_of_bounds(replicates(config))
    return [
        TrialRequest(bound_key(method), "bound", {"method.name": method}, setting=setting).config(config)
        for method in config.study.bounds
        for setting in settings
    ]


def _slots(training: TrainingConfig) -> int:
    """Runs that this machine has room for."""
    there = {"CPU": float(len(os.sched_getaffinity(0))), "GPU": float(torch.cuda.device_count())}
    needed = {name: number * max(1, training.workers) for name, number in training.resources_per_worker.items()}
    return max(1, min((int(there[name] // number) for name, number in needed.items() if name in there), default=1))


def _free(directory: Path) -> float:
    there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    return float(shutil.disk_usage(there).free)


def _sum(runs: Sequence[RunWork]) -> Work:
    return sum((run.whole for run in runs), Work())
