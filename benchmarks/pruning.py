"""What pruning spares, and what it costs: the same trials with and without it.

    python -m benchmarks.pruning [rule]         # median (the default) or halving; about two minutes on two cores

Both studies try the same configurations, from one quasi-random sequence that does not look at results. So the best
score can only fall, namely if the trial that would have become best was stopped. Nothing is shared, so that steps and
seconds are those of the trials alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from benchmarks.results import Figure, keep
from seekr_tune.config import Config
from seekr_tune.experiment import load_experiment, with_values
from seekr_tune.records import read_steps
from seekr_tune.study.directory.layout import journal_path, trial_path
from seekr_tune.study.directory.records import read_records
from seekr_tune.study.life.study import start_study
from seekr_tune.study.search.objectives import objective_value
from seekr_tune.study.search.space import load_space

REPOSITORY = Path(__file__).parent.parent
SETTINGS: dict[str, Any] = {
    "stream.limits.train": 200,
    "stream.limits.eval": 50,
    "study.trials": 16,
    "study.bounds": [],
    "study.sampler": "qmc",
    "study.objectives": {"op": "maximize"},
    "study.share_first_stage": False,
}


@dataclass(frozen=True)
class Spent:
    """What a study gave, and took."""

    best: float
    steps: int
    seconds: float
    tasks: int
    states: Counter[str]
    pruned_in_journal: bool


def measure(config: Config, directory: Path) -> Spent:
    start_study(config, load_space(REPOSITORY / "search_spaces" / "seekr.yaml"), directory)
    records = read_records(directory)
    scores = [objective_value(record, "op") for record in records if record.status == "finished"]
    journal = JournalStorage(JournalFileBackend(str(journal_path(directory))))
    states = {trial.number: trial.state for trial in optuna.load_study(study_name=None, storage=journal).trials}
    pruned = {record.optuna_number for record in records if record.status == "pruned"}
    return Spent(
        best=max(score for score in scores if score is not None),
        steps=sum(len(read_steps(trial_path(directory, record.trial) / "steps.jsonl")) for record in records),
        seconds=sum(record.wall_seconds for record in records),
        tasks=sum(record.tasks_done for record in records),
        states=Counter(record.status for record in records),
        pruned_in_journal=pruned == {number for number, state in states.items() if state == TrialState.PRUNED},
    )


def main() -> None:
    rule = sys.argv[1] if len(sys.argv) > 1 else "median"
    started = time.perf_counter()
    config = with_values(load_experiment(REPOSITORY / "experiments" / "demo.yaml"), SETTINGS)
    with tempfile.TemporaryDirectory() as scratch:
        found = {
            name: measure(with_values(config, {"study.pruning.rule": name}), Path(scratch) / name / "study")
            for name in ("none", rule)
        }
    without, pruned = found["none"], found[rule]
    if not pruned.pruned_in_journal:
        raise SystemExit(f"error: other trials are PRUNED in the journal than those that were: {dict(pruned.states)}")
    of, against = f"{rule} pruning of {config.study.trials} trials ({pruned.states['pruned']} pruned)", "without"
    figures = [
        Figure(name=f"{of}: best op", against=against, value=pruned.best / without.best),
        Figure(name=f"{of}: tasks learned", against=against, value=pruned.tasks / without.tasks),
        Figure(name=f"{of}: steps", against=against, value=pruned.steps / without.steps),
        Figure(name=f"{of}: seconds of all trials", against=against, value=pruned.seconds / without.seconds),
    ]
    keep("pruning", time.perf_counter() - started, figures)


if __name__ == "__main__":
    main()
