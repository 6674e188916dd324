"""From an experiment file on the command line to a checked experiment and the directory of its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seekr_tune.config import Config


def ready(experiment: Path, assignments: Sequence[str] | None, search: bool) -> tuple[Config, tuple[str, ...]]:
    """The experiment, checked with its data and its model, and what to warn of once it begins."""
    from seekr_tune.experiment import load_experiment
    from seekr_tune.validation import require_ready

    return require_ready(load_experiment(experiment, assignments or ()), experiment, search=search)


def with_trials(assignments: Sequence[str] | None, trials: int | None) -> list[str]:
    """`--trials` as one more assignment."""
    return [*(assignments or ()), *([] if trials is None else [f"study.trials={trials}"])]


def default_study_directory(config: Config) -> Path:
    """One study an experiment; another one of the same name needs `--out`."""
    return Path("runs") / config.name


def default_run_directory(config: Config) -> Path:
    """The same settings find the same directory, and go on there; other settings find another one."""
    from seekr_tune.experiment import fingerprint

    return Path("runs") / f"{config.name}-{fingerprint(config)}"
