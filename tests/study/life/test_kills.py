"""A study that is killed over and over ends with the trials and the scores of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from seekr_tune.config import Config
from seekr_tune.experiment import dump_config, load_experiment, with_values
from seekr_tune.records import TrialRecord, score_matrix
from seekr_tune.study.directory.layout import experiment_path, space_path, trials_path
from seekr_tune.study.life.status import read_records
from seekr_tune.study.search.queue import open_study
from seekr_tune.study.search.space import load_space
from tests.processes import descendants
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[3]
TRIALS, KILLS = 12, 10

DRIVE = """
import sys
from pathlib import Path
from seekr_tune.experiment import load_experiment
from seekr_tune.study.directory.layout import is_study
from seekr_tune.study.life.study import resume_study, start_study
experiment, directory = Path(sys.argv[1]), Path(sys.argv[2])
if is_study(directory):
    resume_study(directory)
else:
    start_study(load_experiment(experiment), experiment, directory)
"""


def experiment_of(config: Config, folder: Path) -> Path:
    """Twelve short trials of three tasks, one at a time; a step checkpoint every few steps."""
    path = folder / "tiny.yaml"
    values = {
        "stream.tasks": ["star", "last", "paren"],
        "stream.limits.train": 48,
        "study.space": "two.yaml",
        "study.trials": TRIALS,
        "study.bounds": ["seqft"],
        "study.max_concurrent": 1,
        "training.checkpoint_steps": 2,
        "training.max_failures": 100,
    }
    path.write_text(dump_config(with_values(config, values)))
    return path


def launch(experiment: Path, directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DRIVE, str(experiment), str(directory)], cwd=ROOT)


def progress(directory: Path) -> int:
    """Tasks that were finished in all runs of a study."""
    return sum(record.tasks_done for record in read_records(directory)) if directory.is_dir() else 0


def wait_for(process: subprocess.Popen[bytes], directory: Path, tasks: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while progress(directory) < tasks:
        assert process.poll() is None, f"ended with code {process.returncode} before {tasks} tasks were done"
        assert time.monotonic() < deadline, f"{progress(directory)} tasks after {PATIENCE} s, {tasks} awaited"
        time.sleep(0.02)


def run_with_kills(experiment: Path, directory: Path, places: list[int], rng: random.Random) -> list[str]:
    """Run to the end; returns what was killed, in order."""
    killed: list[str] = []
    process = launch(experiment, directory)
    for tasks in places:
        wait_for(process, directory, tasks)
        time.sleep(rng.uniform(0.0, 1.0))
        trials = descendants(process.pid, "ImplicitFunc")  # what Tune calls the actor of a trial
        if trials and len(killed) % 2:
            os.kill(rng.choice(trials), signal.SIGKILL)  # Tune starts it again
            killed.append("trial")
        else:
            process.kill()
            process.wait()
            killed.append("driver")
            process = launch(experiment, directory)  # at once: a trial of the killed driver may still be there
    assert process.wait(PATIENCE) == 0
    return killed


def scores(records: list[TrialRecord]) -> dict[str, np.ndarray]:
    return {record.trial: score_matrix(record, "eval") for record in records}


def assert_complete(directory: Path) -> None:
    """All trials, each once, none lost, none left running; the journal agrees with the directories."""
    study = open_study(directory, load_experiment(experiment_path(directory)), load_space(space_path(directory)))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * TRIALS
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) == TRIALS
    records = read_records(directory)
    assert {record.status for record in records} == {"finished"}
    assert {record.trial for record in records} == {path.name for path in trials_path(directory).iterdir()}
    assert len(records) == TRIALS + 1
    of_trials = {record.optuna_number: record.params for record in records if record.role == "trial"}
    assert of_trials == {trial.number: trial.params for trial in study.trials}


@pytest.mark.ray
@pytest.mark.slow
def test_a_study_that_is_killed_ten_times_equals_an_undisturbed_one(
    config: Config, tmp_path: Path, space: object
) -> None:
    experiment = experiment_of(config, tmp_path)
    assert launch(experiment, tmp_path / "whole" / "study").wait(4 * PATIENCE) == 0
    rng = random.Random(7)
    places = sorted(rng.sample(range(1, 3 * TRIALS), KILLS))
    killed = run_with_kills(experiment, tmp_path / "killed" / "study", places, rng)
    print(f"killed: {', '.join(killed)} after {places} tasks")
    assert len(killed) == KILLS and set(killed) == {"driver", "trial"}

    for name in ("whole", "killed"):
        assert_complete(tmp_path / name / "study")
    whole, disturbed = (read_records(tmp_path / name / "study") for name in ("whole", "killed"))
    assert [record.params for record in disturbed] == [record.params for record in whole]
    expected = scores(whole)
    for key, matrix in scores(disturbed).items():
        np.testing.assert_array_equal(matrix, expected[key], err_msg=key)
