"""What `status` tells of a study, whatever state its files are in."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.errors import ConfigError, StudyError
from seekr_tune.experiment import dump_config, with_values
from seekr_tune.records import TimingRow, read_record, write_record
from seekr_tune.study.directory.layout import driver_path, experiment_path, openings_path, result_path, stop_path
from seekr_tune.study.directory.log import logged_in
from seekr_tune.study.life.status import study_status, watch_study
from seekr_tune.study.runs.outcome import new_record, run_failed
from seekr_tune.study.runs.request import TrialRequest
from tests.study.conftest import Finish

OBJECTIVES = {"op": "maximize", "distinct_replayed_samples": "minimize"}


@pytest.fixture
def study(tmp_path: Path, config: Config, finish: Finish) -> Path:
    """Six trials and a bound were asked for; two are finished, and the bound."""
    directory = tmp_path / "study"
    config = with_values(config, {"study.bounds": ["seqft"], "study.objectives": OBJECTIVES})
    directory.mkdir()
    experiment_path(directory).write_text(dump_config(config))
    finish(config, TrialRequest("bound-seqft", "bound", {"method.name": "seqft"}), op=90.0)
    finish(config, trial(0), op=30.0, samples=2)
    finish(config, trial(1), op=50.0, samples=9)
    return directory


def trial(number: int) -> TrialRequest:
    return TrialRequest(f"trial-{number:04d}", "trial", {}, number)


def begin(directory: Path, config: Config, number: int, status: str = "running", done: int = 0) -> None:
    record = new_record(config, trial(number)).model_copy(update={"status": status, "tasks_done": done})
    write_record(result_path(directory, record.trial), record)


def drive(directory: Path, slots: int) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": "2026-01-02 03:04:05 UTC", "slots": slots}
    driver_path(directory).parent.mkdir(exist_ok=True)
    driver_path(directory).write_text(json.dumps(holder))


def test_runs_are_counted_by_state(study: Path, config: Config) -> None:
    begin(study, config, 2)
    begin(study, config, 3, "pruned", done=2)
    run_failed(study / "trials" / "trial-0004", config, trial(4), "RuntimeError: no")
    counts = {"finished": 3, "pruned": 1, "failed": 1, "running": 0, "interrupted": 1, "damaged": 0, "waiting": 1}
    status = study_status(study)
    assert (status.counts, status.total, status.driver) == (counts, 7, None)
    assert f"go on with `seekr-tune resume {study}`" in status.summary()
    assert "trial-0004  failed  RuntimeError: no" in status.summary()
    assert "trial-0002  interrupted  task 0/3" in status.summary()

    drive(study, slots=2)
    status = study_status(study)
    assert status.counts["running"] == 1 and status.counts["interrupted"] == 0
    assert f"run by process {os.getpid()} on {socket.gethostname()} since 2026-01-02 03:04:05 UTC" in status.summary()
    stop_path(study).touch()
    assert study_status(study).is_stopping and ", stopping" in study_status(study).summary()


def test_what_ended_the_last_launch_is_told_while_nobody_runs_it(study: Path) -> None:
    log = logging.getLogger("seekr_tune.study")
    with logged_in(study):
        log.info("launch started")
        log.error("launch failed", extra={"fields": {"error": "DataError: row 7 is wrong"}})
    told = f"nobody runs it (DataError: row 7 is wrong); go on with `seekr-tune resume {study}`"
    assert told in study_status(study).summary()
    with logged_in(study):
        log.info("launch started")
    assert "nobody runs it (its process was killed, or the directory was moved mean" in study_status(study).summary()
    drive(study, slots=2)
    assert study_status(study).failure is None


def test_the_best_and_the_front_are_of_trials_and_not_of_bounds(study: Path, config: Config, finish: Finish) -> None:
    finish(config, trial(2), op=40.0, samples=20)
    status = study_status(study)
    assert (status.best, status.best_value) == ("trial-0001", 50.0)
    assert status.front == {"trial-0000": (30.0, 2.0), "trial-0001": (50.0, 9.0)}
    assert "Pareto front (op, distinct_replayed_samples): trial-0000 (30, 2); trial-0001 (50, 9)" in status.summary()


def test_the_time_left_is_that_of_the_runs_to_come(study: Path, config: Config) -> None:
    for key in ("bound-seqft", "trial-0000", "trial-0001"):
        path = result_path(study, key)
        write_record(path, read_record(path).model_copy(update={"wall_seconds": 60.0}))
    assert study_status(study).seconds_left is None, "nobody runs it"
    drive(study, slots=2)
    status = study_status(study)
    assert status.seconds_left == 4 * 60.0 / 2
    assert "time left: about 2 min" in status.summary()


def test_what_sharing_saved_and_what_the_disk_holds_is_told(study: Path, config: Config) -> None:
    assert "saved by sharing" not in study_status(study).summary()
    costs = {name: 0 for name in ("new_seconds", "replay_seconds", "distillation_seconds", "teacher_seconds")}
    costs |= {"evaluation_seconds": 0, "checkpoint_seconds": 0, "tokens": 0, "peak_memory_bytes": 0, "model_flops": 0}
    rows = tuple(TimingRow(task="star", task_index=0, shared_seconds=seconds, **costs) for seconds in (10.5, 20.5))
    record = new_record(config, trial(5)).model_copy(update={"timing": rows})
    write_record(result_path(study, record.trial), record)
    before = study_status(study)
    (study / "weights").write_bytes(b"x" * 3_000_000)
    after = study_status(study)
    assert before.seconds_shared == 31.0 and "time saved by sharing: 31 s" in before.summary()
    assert after.disk_bytes - before.disk_bytes == 3_000_000
    assert re.search(r"disk used: 3\.\d+ MB", after.summary())


def test_the_state_of_the_test_split_is_told(study: Path) -> None:
    assert "test sealed" in study_status(study).summary()
    openings_path(study).parent.mkdir(exist_ok=True)
    openings_path(study).write_text("garbage")
    assert "nobody knows how often test was opened" in study_status(study).summary()


@pytest.mark.parametrize("garbage", [b"", b"\x00\xff", b'{"trial": 1'])
def test_a_damaged_record_costs_its_own_line_only(study: Path, garbage: bytes) -> None:
    result_path(study, "trial-0000").write_bytes(garbage)
    status = study_status(study)
    assert status.counts["damaged"] == 1 and status.counts["finished"] == 2 and status.total == 7
    (line,) = [line for line in status.summary().splitlines() if "damaged" in line and "trial-0000" in line]
    assert str(result_path(study, "trial-0000")) in line
    assert status.best == "trial-0001"


def test_a_damaged_journal_or_driver_hides_nothing(study: Path) -> None:
    (study / "study").mkdir()
    (study / "study" / "journal.log").write_bytes(b"\x00\xffgarbage\n")
    driver_path(study).write_bytes(b"{")
    status = study_status(study)
    assert status.counts["finished"] == 3 and status.driver is None


def test_a_damaged_experiment_is_named(study: Path) -> None:
    experiment_path(study).write_text("name: [")
    with pytest.raises(ConfigError, match=r"experiment\.yaml"):
        study_status(study)


def test_a_directory_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        study_status(tmp_path)
    assert not list(tmp_path.iterdir())


def test_watching_ends_when_nobody_runs_the_study(study: Path) -> None:
    drive(study, slots=1)
    shown: list[str] = []

    def show(text: str) -> None:
        shown.append(text)
        if len(shown) == 2:
            driver_path(study).unlink()

    watch_study(study, 0.01, show)
    assert ["run by process" in text for text in shown] == [True, True, False]


def test_status_loads_no_large_library(study: Path) -> None:
    code = (
        "import sys; from seekr_tune.cli import main; assert main(sys.argv[1:]) == 0; "
        "assert not {'ray', 'torch', 'transformers', 'pandas', 'pyarrow', 'datasets'} & set(sys.modules)"
    )
    for arguments in (["status"], ["show"]):
        last = ["trial-0000"] if arguments == ["show"] else []
        line = [sys.executable, "-c", code, *arguments, str(study), *last]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
