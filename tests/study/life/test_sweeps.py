"""Sweeps as a user starts them: two at a time, stopped by Ctrl-C and by `stop`, resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seekr_tune.analysis.ledger import read_trials
from seekr_tune.config import Config
from seekr_tune.experiment import dump_config, with_values
from seekr_tune.records import score_matrix
from seekr_tune.study.directory.layout import is_study
from seekr_tune.study.directory.records import read_records
from tests.processes import descendants, living
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[3]
PARTS_OF_A_RUN = {
    *("config.yaml", "result.json", "result.heads.parquet", "steps.jsonl", "steps.partial.jsonl", "log.jsonl"),
    *(".lock", "checkpoints", "events"),
}

pytestmark = pytest.mark.ray


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "seekr_tune.cli", *map(str, arguments)]


def begin(experiment: Path, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("sweep", experiment, "--out", directory),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as a shell gives it: Ctrl-C reaches all of it
    )


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture
def experiment(config: Config, space: object, tmp_path: Path) -> Path:
    """Two trials, one at a time, of tasks that take a moment."""
    values = {
        "study.space": "two.yaml",
        "study.trials": 2,
        "study.max_concurrent": 1,
        "stream.limits.train": 64,
        "recipe.epochs": 6,
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(with_values(config, values)))
    return path


def wait_for_the_middle(directory: Path, sweep: subprocess.Popen[str]) -> None:
    """Until the first trial has finished a task."""

    def is_there() -> bool:
        assert sweep.poll() is None, f"ended early: {sweep.stderr.read() if sweep.stderr else ''}"
        return is_study(directory) and any(record.tasks_done for record in read_records(directory))

    wait_until(is_there, "a task is finished")


def processes_below(pid: int) -> set[int]:
    """Process ids of it and all its descendants."""
    return {pid, *descendants(pid, "")}


def assert_gone(pids: set[int]) -> None:
    wait_until(lambda: not living(pids), f"{sorted(pids)} have ended", seconds=0.1)


def assert_nothing_is_left(directory: Path) -> None:
    """Neither a request, nor a driver, nor a half-written file."""
    assert {path.name for path in (directory / "study").iterdir()} == {"journal.log", "provenance.json"}
    for run in (directory / "trials").iterdir():
        assert {path.name for path in run.iterdir()} <= PARTS_OF_A_RUN
        kept = {path.name for path in (run / "checkpoints").iterdir()} - {".first-stage"}
        assert all(name.startswith("task-") for name in kept), kept


def scores(directory: Path) -> dict[str, str]:
    """The score matrix of each run, in all digits."""
    return {record.trial: repr(score_matrix(record, "eval").tolist()) for record in read_records(directory)}


@pytest.mark.slow
def test_two_studies_run_at_once_and_a_stopped_one_ends_like_an_undisturbed_one(
    experiment: Path, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    sweeps = {directory: begin(experiment, directory) for directory in (whole, stopped)}
    wait_for_the_middle(stopped, sweeps[stopped])

    os.kill(sweeps[stopped].pid, signal.SIGSTOP)  # under a load its study could end before the other command has begun
    second = call("resume", stopped)
    os.kill(sweeps[stopped].pid, signal.SIGCONT)
    assert second.returncode == 2 and f"is being run by process {sweeps[stopped].pid} on " in second.stderr
    assert len(second.stderr.splitlines()) == 1

    family = processes_below(sweeps[stopped].pid)
    asked = call("stop", stopped)
    assert asked.returncode == 0 and "stopped; go on with" in asked.stderr
    _, said = sweeps[stopped].communicate(timeout=PATIENCE)
    assert sweeps[stopped].returncode == 130 and said.splitlines()[-1].startswith(f"{stopped}: stopped; go on with")
    assert_gone(family)
    assert_nothing_is_left(stopped)
    assert read_trials(stopped).num_rows >= 1

    assert sweeps[whole].wait(PATIENCE) == 0, "stopping one study must not touch another"
    resumed = call("resume", stopped)
    assert resumed.returncode == 0, resumed.stderr
    assert scores(stopped) == scores(whole) and len(scores(whole)) == 2
    assert_nothing_is_left(stopped)


@pytest.mark.slow
def test_ctrl_c_saves_what_runs_and_resume_goes_on(experiment: Path, tmp_path: Path) -> None:
    directory = tmp_path / "study"
    sweep = begin(experiment, directory)
    wait_for_the_middle(directory, sweep)
    family = processes_below(sweep.pid)
    os.killpg(sweep.pid, signal.SIGINT)
    _, said = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 130 and "Traceback" not in said
    assert said.count("stopping: the steps that are running are finished and saved") == 1
    assert_gone(family)
    assert_nothing_is_left(directory)
    (begun,) = [record for record in read_records(directory) if record.status == "running"]
    lines = (directory / "trials" / begun.trial / "steps.jsonl").read_bytes()

    resumed = call("resume", directory)
    assert resumed.returncode == 0, resumed.stderr
    assert (directory / "trials" / begun.trial / "steps.jsonl").read_bytes().startswith(lines), "nothing was redone"
    assert [record.status for record in read_records(directory)] == ["finished"] * 2


def test_a_run_on_its_own_is_stopped_and_goes_on(experiment: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    run = command("run", experiment, "--out", directory)
    process = subprocess.Popen(run, cwd=ROOT, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL)

    def learns() -> bool:
        assert process.poll() is None
        return (directory / "steps.partial.jsonl").is_file()

    wait_until(learns, "the first step is logged")
    process.terminate()
    _, said = process.communicate(timeout=PATIENCE)
    assert (
        process.returncode == 130 and said.splitlines()[-1] == f"{directory}: stopped; the same command goes on with it"
    )
    assert not (directory / ".stop").exists()
    again = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "task 3/3" in again.stderr
