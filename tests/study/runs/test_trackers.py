"""Trackers follow a run and cannot change it; one that goes on is told where."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from seekr_tune.config import Config
from seekr_tune.config.facts import may_change
from seekr_tune.config.plugins import with_plugins
from seekr_tune.errors import ConfigError
from seekr_tune.experiment import fingerprint, leaves_that, parse_config, with_values
from seekr_tune.records import StepRow, TrialRecord
from seekr_tune.study.runs.outcome import new_record
from seekr_tune.study.runs.request import TrialRequest
from seekr_tune.study.runs.trackers import Trackers, maker_of

JSONL = Path(__file__).parents[3] / "examples" / "plugins" / "jsonl"
BROKEN = """
class Broken:
    def __init__(self, record, directory, steps_done):
        pass
    def log_step(self, row):
        raise ValueError("no network")
    def log_task(self, record):
        raise AssertionError("it was left out")
    def close(self, record=None):
        raise AssertionError("it was left out")
class Full(Broken):
    def log_step(self, row):
        raise OSError(28, "No space left on device")
nothing = 3
"""


def config_of(beside: Path, *trackers: str) -> Config:
    values = {"name": "own", "stream": {"tasks": ["star", "last"]}, "training": {"trackers": list(trackers)}}
    return parse_config(with_plugins(values, beside, "own"), "own")


def record_of(config: Config, tasks_done: int = 0, **values: Any) -> TrialRecord:
    record = new_record(config, TrialRequest("trial-0000", "trial"))
    return record.model_copy(update={"tasks_done": tasks_done, **values})


def row(step: int) -> StepRow:
    given = {"terms": {}, "learning_rate": 0.1, "samples": 2, "tokens": 8, "seconds": 0.1}
    return StepRow.model_validate({"task_index": 0, "step": step, "kind": "new", "loss": 1.0, **given})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_tracker_of_ones_own_logs_no_step_twice_after_a_kill(tmp_path: Path) -> None:
    config = config_of(JSONL, "tensorboard", "./jsonl.py:JsonLines")
    assert config.training.trackers == ("tensorboard", "jsonlines")
    killed = Trackers(config, record_of(config), tmp_path, 0)
    for step in range(4):
        killed.log_step(row(step))
    killed.log_task(record_of(config, 1))
    with (tmp_path / "curves.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # in the middle of a line, and of the second task
    resumed = Trackers(config, record_of(config, 1), tmp_path, 4)
    resumed.log_task(record_of(config, 1))
    resumed.log_step(row(0))
    resumed.close(record_of(config, 2, status="finished"))
    found = lines(tmp_path / "curves.jsonl")
    assert [one["step"] for one in found if "step" in one] == [1, 2, 3, 4, 5]
    assert [one["tasks_done"] for one in found if "tasks_done" in one] == [1]
    assert found[-1] == {"trial": "trial-0000", "status": "finished"}
    assert len(list((tmp_path / "events").iterdir())) == 2


def test_a_tracker_that_raises_is_left_out_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    config = config_of(tmp_path, "./mine.py:Broken")
    trackers = Trackers(config, record_of(config), tmp_path, 0)
    with caplog.at_level(logging.WARNING):
        trackers.log_step(row(0))
        trackers.log_step(row(1))
        trackers.log_task(record_of(config, 1))
        trackers.close(record_of(config, 2))
    (warning,) = caplog.records
    assert warning.__dict__["fields"] == {"tracker": "broken", "error": "ValueError: no network"}


def test_a_full_disk_is_not_the_fault_of_a_tracker(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    config = config_of(tmp_path, "./mine.py:Full")
    with pytest.raises(OSError, match="No space left"):
        Trackers(config, record_of(config), tmp_path, 0).log_step(row(0))


def test_who_follows_a_run_is_no_part_of_it(tmp_path: Path) -> None:
    plain, own = config_of(JSONL), config_of(JSONL, "./jsonl.py:JsonLines")
    assert fingerprint(plain) == fingerprint(own)
    assert leaves_that(plain, lambda path: not may_change(path)) == leaves_that(own, lambda path: not may_change(path))


def test_what_is_no_tracker_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    config = config_of(tmp_path, "./mine.py:nothing")
    with pytest.raises(ConfigError, match="is neither a class nor a function"):
        maker_of(config, "nothing")
    with pytest.raises(ConfigError, match="did you mean 'tensorboard'"):
        with_values(config, {"training.trackers": ["tensorbord"]})
