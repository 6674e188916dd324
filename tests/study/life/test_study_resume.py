"""A study on real Ray whose driver is killed in the middle and resumed."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from seekr_tune.analysis.ledger import read_trials
from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import dump_config, load_experiment, with_values
from seekr_tune.records import TrialRecord, read_record
from seekr_tune.study.directory.layout import experiment_path, space_path, trial_key, trial_path, trials_path
from seekr_tune.study.life.status import read_records
from seekr_tune.study.life.study import resume_study
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.trial import run_trial
from seekr_tune.study.search.queue import open_study
from seekr_tune.study.search.space import Space, load_space
from tests.waiting import PATIENCE, wait_until

START = """
import sys
from pathlib import Path
from seekr_tune.experiment import load_experiment
from seekr_tune.study.life.study import start_study
experiment = Path(sys.argv[1])
start_study(load_experiment(experiment), experiment, sys.argv[2])
"""
RESUME = """
import sys
from seekr_tune.study.life.study import resume_study
resume_study(sys.argv[1])
"""


def fingerprints(directory: Path) -> dict[str, str]:
    """Every file but that of steps in progress, which goes when the run's end is noted."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != "steps.partial.jsonl")
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def wait_for_the_middle(directory: Path, driver: subprocess.Popen[str]) -> None:
    """Until a trial is finished and another one has finished a task, but not all."""

    def is_there() -> bool:
        assert driver.poll() is None, "the study ended before it could be killed"
        records = read_records(directory)
        done = [record for record in records if record.status == "finished"]
        halfway = [record for record in records if record.status == "running" and record.tasks_done]
        return bool(done and halfway)

    wait_until(is_there, "something to kill", seconds=0.01)


def state_of(directory: Path, status: str) -> dict[str, TrialRecord]:
    return {record.trial: record for record in read_records(directory) if record.status == status}


def kill_and_resume(config: Config, directory: Path) -> dict[str, TrialRecord]:
    """Start a study, kill its driver in the middle, resume it; the finished runs, an interrupted one first."""
    experiment = directory.parent / "tiny.yaml"
    experiment.write_text(dump_config(with_values(config, {"study.space": "two.yaml"})))
    driver = subprocess.Popen([sys.executable, "-c", START, str(experiment), str(directory)], text=True)
    try:
        wait_for_the_middle(directory, driver)
        with pytest.raises(StudyError, match=f"is being run by process {driver.pid}"):
            resume_study(directory)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    before = {key: fingerprints(trial_path(directory, key)) for key in state_of(directory, "finished")}
    halfway = [key for key, record in state_of(directory, "running").items() if record.tasks_done]
    steps = {key: (trial_path(directory, key) / "steps.jsonl").read_bytes() for key in halfway}

    subprocess.run([sys.executable, "-c", RESUME, str(directory)], check=True, timeout=PATIENCE)

    after = state_of(directory, "finished")
    for key, files in before.items():
        assert fingerprints(trial_path(directory, key)) == files, f"{key} was finished and must stay as it was"
    assert not list(directory.rglob("steps.partial.jsonl")), "nothing is in progress any more"
    for key, lines in steps.items():  # the durations in it would differ if the tasks had been learned again
        assert (trial_path(directory, key) / "steps.jsonl").read_bytes().startswith(lines)
    keys = {*(f"bound-{name}" for name in config.study.bounds), *map(trial_key, range(config.study.trials))}
    assert set(after) == keys == {path.name for path in trials_path(directory).iterdir()}
    assert read_trials(directory).num_rows == len(keys)
    assert_journal_agrees(directory, after)
    return {key: after[key] for key in (*halfway, *after)}


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_study_is_resumed_to_exactly_the_trials_that_were_asked_for(
    config: Config, space: Space, tmp_path: Path
) -> None:
    more = {"study.trials": 5, "study.bounds": ["seqft"], "study.max_concurrent": 2}
    longer = {"stream.limits.train": 64, "recipe.epochs": 3}
    records = kill_and_resume(with_values(config, {**more, **longer}), tmp_path / "study")
    interrupted = next(iter(records.values()))
    assert_like_plain_python(tmp_path / "study", interrupted, tmp_path / "plain")


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_study_of_worker_groups_is_resumed(config: Config, space: Space, tmp_path: Path) -> None:
    groups = {"study.trials": 2, "training.workers": 2, "training.resources_per_worker": {"CPU": 1}}
    longer = {"stream.limits.train": 64, "recipe.epochs": 3}
    records = kill_and_resume(with_values(config, {**groups, **longer}), tmp_path / "study")
    assert len(records) == 2 and all(record.tasks_done == len(record.tasks) for record in records.values())


def assert_journal_agrees(directory: Path, records: dict[str, TrialRecord]) -> None:
    study = open_study(directory, load_experiment(experiment_path(directory)), load_space(space_path(directory)))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * len(study.trials)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == len(study.trials)
    for trial in study.trials:
        assert isinstance(trial, optuna.trial.FrozenTrial)
        record = records[trial.user_attrs["trial"]]
        assert record.optuna_number == trial.number and record.params == trial.params
        assert record.ray_trial_id


def assert_like_plain_python(directory: Path, record: TrialRecord, plain: Path) -> None:
    """The run that was killed and resumed on Ray, once more without both."""
    experiment = load_experiment(experiment_path(directory))
    values = record.params or {"method.name": record.method}
    request = TrialRequest(record.trial, record.role, values, record.optuna_number, record.configuration)
    run_trial(request.config(experiment), plain, request)
    again = read_record(plain / "result.json")
    ignored = {"wall_seconds", "ray_trial_id", "timing"}
    assert again.model_dump(exclude=ignored) == record.model_dump(exclude=ignored)
