"""Worker groups that go wrong: what is tried again, what is not, and what reaches the caller."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.train import UserCallback

from seekr_tune.config import Config
from seekr_tune.errors import DataError, StudyError
from seekr_tune.experiment import parse_config
from seekr_tune.sequence.workers import Workers
from seekr_tune.training.session import ray_session
from seekr_tune.training.trainer import EndOnRefusal, Report, run_in_workers

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with ray_session():
        yield


def config(**training: Any) -> Config:
    return parse_config(
        {"stream": {"tasks": ["star"]}, "recipe": {"batch_size": 8}, "training": {"workers": 2, **training}}, "test"
    )


def count_calls(directory: Path, workers: Workers) -> int:
    """How often this rank was called, with this call."""
    calls = len(list(directory.glob(f"call-{workers.rank}-*"))) + 1
    (directory / f"call-{workers.rank}-{calls}").touch()
    return calls


def refuse_on_one_rank(workers: Workers, report: Report, *, directory: Path) -> None:
    count_calls(directory, workers)
    if workers.rank == 1:
        raise DataError("row 7: no text; drop it")
    workers.sum(torch.ones(1))  # waits for a rank that never comes


def test_what_one_rank_refuses_ends_the_group_and_is_not_tried_again(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(DataError, match="^row 7: no text; drop it$"):
        run_in_workers(partial(refuse_on_one_rank, directory=tmp_path), config(), tmp_path / "ray", "refuse")
    print("SECONDS", time.monotonic() - started)
    assert sorted(path.name for path in tmp_path.glob("call-*")) == ["call-0-1", "call-1-1"]


def fail_twice(workers: Workers, report: Report, *, directory: Path) -> int:
    calls = count_calls(directory, workers)
    if workers.rank == 1 and calls <= 2:
        raise RuntimeError("the disk was full")
    return calls


def test_any_other_error_of_a_rank_is_tried_again_as_often_as_the_experiment_says(tmp_path: Path) -> None:
    started = time.monotonic()
    work = partial(fail_twice, directory=tmp_path)
    assert run_in_workers(work, config(max_failures=2), tmp_path / "ray", "fail") == 3
    print("SECONDS", time.monotonic() - started)


def test_an_error_that_stays_reaches_the_caller(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ray.train.TrainingFailedError, match="the disk was full"):
        run_in_workers(partial(fail_twice, directory=tmp_path), config(max_failures=0), tmp_path / "ray", "fail")
    print("SECONDS", time.monotonic() - started)
    assert len(list(tmp_path.glob("call-1-*"))) == 1


class LoseTheFirstReport(UserCallback):
    """Fails on the first report that it sees, whichever controller it lives in."""

    def __init__(self, directory: Path) -> None:
        self._marker = directory / "lost"

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        if not self._marker.exists():
            self._marker.touch()
            raise ConnectionError("whoever watches is gone")


def report_twice(workers: Workers, report: Report, *, directory: Path) -> int:
    calls = count_calls(directory, workers)
    for _ in range(2):
        report({"calls": calls})
    return calls


def test_a_report_that_fails_starts_the_group_again(tmp_path: Path) -> None:
    started = time.monotonic()
    work = partial(report_twice, directory=tmp_path)
    lost = [LoseTheFirstReport(tmp_path)]
    assert run_in_workers(work, config(max_failures=1), tmp_path / "ray", "report", callbacks=lost) == 2
    print("SECONDS", time.monotonic() - started)


class KillTheFirstController(LoseTheFirstReport):
    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        if not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_controller_that_is_killed_is_replaced(tmp_path: Path) -> None:
    started = time.monotonic()
    work = partial(report_twice, directory=tmp_path)
    killed = [KillTheFirstController(tmp_path)]
    assert run_in_workers(work, config(max_failures=1), tmp_path / "ray", "kill", callbacks=killed) == 2
    print("SECONDS", time.monotonic() - started)


def test_no_room_for_the_group_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "0.5")
    big = config(resources_per_worker={"CPU": 1000}, max_failures=0)
    with pytest.raises(StudyError, match=r"^there was no room for 2 workers of \(1000 CPU\)"):
        run_in_workers(partial(fail_twice, directory=tmp_path), big, tmp_path / "ray", "room")
    assert not list(tmp_path.glob("call-*"))


def test_of_all_errors_of_a_group_the_refusal_is_picked() -> None:
    errors = {0: RuntimeError("connection closed by peer"), 1: DataError("row 7: no text; drop it")}
    with pytest.raises(DataError, match="row 7"):
        EndOnRefusal().after_exception(None, errors)
    EndOnRefusal().after_exception(None, {0: errors[0]})
