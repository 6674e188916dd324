"""The small study that everything is done to, and the same study undisturbed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seekr_tune.experiment import dump_config, parse_config, with_values
from tests.faults.command import Ended, Launcher
from tests.faults.injection import Injection
from tests.faults.invariants import Results, violations

TRIALS = 3
QUOTA_GIGABYTES = 0.004
SPACE = """\
method.memory.percent: {type: float, low: 5, high: 20, published: 10}
method.seekr.attention_weight: {type: float, low: 1, high: 1000, log: true, published: 1000}
"""
EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "stream": {"tasks": ["star", "last", "paren"], "limits": {"train": 24, "eval": 8, "test": 8}},
    "recipe": {"learning_rate": 5e-4, "batch_size": 8, "max_prompt_tokens": 40, "max_answer_tokens": 4},
    "method": {"replay_percent": 10, "head_budget": 0.25, "query_budget": 8, "attention_weight": 10},
    "evaluation": {"matrix": "diagonal_and_last"},
    "study": {
        "space": "two.yaml",
        "trials": TRIALS,
        "bounds": ["seqft"],
        "max_concurrent": 1,
        "disk_gigabytes": QUOTA_GIGABYTES,
    },
    "training": {"checkpoint_steps": 2},
}


def write_experiment(folder: Path, **values: Any) -> Path:
    """The experiment file with its space beside it; `values` differ from it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "two.yaml").write_text(SPACE)
    path = folder / "tiny.yaml"
    path.write_text(dump_config(with_values(parse_config(EXPERIMENT, "faults"), values)))
    return path


@dataclass(frozen=True)
class Bench:
    """Makes studies to do something to.

    Attributes:
        launcher: starts commands.
        folder: every study gets a folder of its own in it.
        experiment: that all of them run.
        expected: what they come to.
        operations: paths that an undisturbed study changes, one for each time.
        num_tasks: that it learns, over all runs.
    """

    launcher: Launcher
    folder: Path
    experiment: Path
    expected: Results
    operations: tuple[str, ...]
    num_tasks: int

    @classmethod
    def prepare(cls, launcher: Launcher, folder: Path, **values: Any) -> Bench:
        """Run the undisturbed study; `values` of its experiment differ from the usual ones."""
        experiment = write_experiment(folder / "experiment", **values)
        study = folder / "whole" / "study"
        ended = launcher.run(study.parent, ["sweep", experiment, "--out", study])
        assert ended.code == 0, ended.said
        expected = Results.of(study)
        assert not (wrong := violations(study, expected)), wrong
        return cls(launcher, folder, experiment, expected, ended.operations, ended.said.count("  task "))

    def place(self, name: str) -> Path:
        """The directory of a new study."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / name).mkdir()
        return self.folder / name / "study"

    def sweep(self, study: Path, injection: Injection | None = None) -> Ended:
        """Begin it."""
        return self.launcher.run(study.parent, ["sweep", self.experiment, "--out", study], injection)

    def go_on(self, study: Path, injection: Injection | None = None) -> Ended:
        """Resume it; begin it where there is none yet."""
        if not (study / "experiment.yaml").is_file():
            return self.sweep(study, injection)
        return self.launcher.run(study.parent, ["resume", study], injection)

    def done_with(self, study: Path, wrong: Sequence[str]) -> Sequence[str]:
        """Remove a study with which nothing is wrong; the others stay to be looked at."""
        if not wrong:
            shutil.rmtree(study.parent, ignore_errors=True)
        return [*wrong, *([f"kept at {study}"] if wrong else [])]
