"""What a study will take on disk: arithmetic over the footprint of its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError
from seekr_tune.loop.footprint import ModelSize, footprint
from seekr_tune.loop.schedule import stored_samples
from seekr_tune.methods.semantics import SEMANTICS
from seekr_tune.models.loading import read_model_config
from seekr_tune.study.plan.calibration import Calibration
from seekr_tune.study.plan.workload import RunWork, TaskSize
from seekr_tune.study.search.protocol import replicates

_LOG_BYTES = 650
"""What a training step leaves in `steps.jsonl` and in the curves; measured on the demo."""


@dataclass(frozen=True)
class DiskPlan:
    """Bytes that a study takes.

    Attributes:
        runs: what all runs leave, if nothing is removed.
        working: what runs at the same time have besides, at most.
        cache: first stages that are shared.
        least: what cannot be removed: logs, the runs at work, and those that may still be chosen at the end.
        quota: most that the study may take; None: no limit.
        free: on the disk where the study will lie.
    """

    runs: float
    working: float
    cache: float
    least: float
    quota: float | None
    free: float

    @property
    def peak(self) -> float:
        """Most at once."""
        everything = self.runs + self.working
        return self.cache + (everything if self.quota is None else min(everything, max(self.quota, self.least)))


def disk_plan(
    config: Config, configs: Sequence[Config], runs: Sequence[RunWork], measured: Calibration, free: float, slots: int
) -> DiskPlan:
    """What a study will take, by the footprint of its checkpoints.

    Args:
        config: the experiment.
        configs, runs: each run as it sees the experiment, and what it has to do.
        measured: sizes of the data.
        free: bytes on the disk.
        slots: runs at the same time.
    """
    sizes: dict[str, ModelSize] = {}
    kept, working, first = [], [], []
    for one in configs:
        key = one.model.model_dump_json()
        if key not in sizes:
            sizes[key] = _model_size(one)
        stored = [[measured.samples[name]] * _count(one, measured.sizes[name]) for name in one.stream.tasks]
        found = footprint(sizes[key], one, stored)
        stages = 2 if one.method.learns_at_once else len(one.stream.tasks) + 1  # one before the first task
        kept.append(min(one.training.checkpoints_kept, stages) * found.checkpoint)
        # While a checkpoint is written, those that it supersedes are still there.
        working.append(one.training.checkpoints_kept * found.checkpoint_inside + found.checkpoint)
        first.append(footprint(sizes[key], one, []).checkpoint)
    logs = sum((work.whole.new_steps + work.whole.replay_steps) * _LOG_BYTES for work in runs)
    busiest = sorted((a + b for a, b in zip(kept, working, strict=True)), reverse=True)[:slots]
    stages_kept = {run.first_key: size for run, size in zip(runs, first, strict=True) if run.first_key is not None}
    study, quota = config.study, config.study.disk_gigabytes
    shares = study.share_first_stage and config.training.storage_path is None
    finalists = study.final.count * len(replicates(config)) if study.final.select == "best" else 0
    return DiskPlan(
        runs=sum(kept) + logs,
        working=sum(sorted(working, reverse=True)[:slots]),
        cache=sum(stages_kept.values()) if shares else 0.0,
        least=logs + sum(busiest) + finalists * max(kept) / config.training.checkpoints_kept,
        quota=None if quota is None else quota * 1e9,
        free=free,
    )


def _count(config: Config, size: TaskSize) -> int:
    percent = config.stored_percent
    return stored_samples(size.train, percent, SEMANTICS[config.method.semantics])


def _model_size(config: Config) -> ModelSize:
    model = read_model_config(config.model, fetch=True)
    if model is None:
        raise ConfigError(f"model.path={config.model.path}: its shape cannot be read; check the path")
    return ModelSize.of(config.model, model)
