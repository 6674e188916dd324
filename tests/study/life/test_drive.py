"""What a launch does first: tidy up behind one that was killed. No Ray is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import with_values
from seekr_tune.study.directory.layout import trial_path
from seekr_tune.study.life.drive import drive
from seekr_tune.study.life.ledger_writer import LedgerWriter
from seekr_tune.study.life.quota import disk_usage
from seekr_tune.study.search.space import Space
from tests.study.searching import drain, open_queue
from tests.test_leftovers import left_by_a_process


def drive_to_the_end(directory: Path, config: Config, space: Space) -> None:
    """What is left of a finished study: nothing but tidying up."""
    drive(open_queue(directory, config, space), directory, directory)


def test_what_a_killed_launch_was_writing_goes(config: Config, space: Space, tmp_path: Path) -> None:
    study = tmp_path / "runs" / "study"
    drain(study, config, space)
    run = trial_path(study, "trial-0001")
    places = [study / "ledger", study / "study", run, study.parent / ".cache" / "bounds"]
    left = [left_by_a_process(folder, "some.json") for folder in places]
    left += [run / "steps.partial.jsonl", run / "checkpoints" / ".writing-0a1b2c3d" / "weights.safetensors"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    drive_to_the_end(study, config, space)
    assert not [path for path in left if path.exists()]
    assert list((run / "checkpoints").iterdir()) == []


def test_a_run_that_a_process_still_holds_is_left_to_it(config: Config, space: Space, tmp_path: Path) -> None:
    study = tmp_path / "runs" / "study"
    drain(study, config, space)
    steps = trial_path(study, "trial-0001") / "steps.partial.jsonl"
    steps.touch()
    with FileLock(steps.with_name(".lock")):
        drive_to_the_end(study, config, space)
    assert steps.exists()


def test_a_run_whose_holder_is_gone_by_the_end_is_tidied_then(
    config: Config, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orphan of a killed launch that was killed in turn, between its record and its tidying up."""
    study = tmp_path / "runs" / "study"
    drain(study, config, space)
    steps = trial_path(study, "trial-0001") / "steps.partial.jsonl"
    steps.touch()
    orphan = FileLock(steps.with_name(".lock"))
    orphan.acquire()
    monkeypatch.setattr(LedgerWriter, "write", lambda self: orphan.release())
    drive_to_the_end(study, config, space)
    assert not steps.exists()


def test_the_quota_holds_also_when_the_launch_before_was_killed_at_its_end(
    config: Config, space: Space, tmp_path: Path
) -> None:
    study = tmp_path / "runs" / "study"
    drain(study, config, space)
    for key in ("trial-0000", "trial-0001", "trial-0002"):
        checkpoint = trial_path(study, key) / "checkpoints" / "task-0003" / "weights.safetensors"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(bytes(10**6))
    drive_to_the_end(study, with_values(config, {"study.disk_gigabytes": 0.0025}), space)
    assert disk_usage(study).total <= 2.5e6
    with pytest.raises(StudyError, match="must stay, more than study.disk_gigabytes"):
        drive_to_the_end(study, with_values(config, {"study.disk_gigabytes": 1e-6}), space)
