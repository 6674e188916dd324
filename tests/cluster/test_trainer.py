"""Worker groups that go wrong: what is tried again, what is not, and what reaches the caller."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import ActorDiedError
from ray.train import ControllerError, UserCallback, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

from seekr_tune.cluster import trainer
from seekr_tune.cluster.session import ray_session
from seekr_tune.cluster.trainer import EndOnRefusal, Report, run_in_workers
from seekr_tune.config import Config
from seekr_tune.errors import DataError, StudyError
from seekr_tune.experiment import parse_config
from seekr_tune.methods.workers import Workers

pytestmark = pytest.mark.ray

TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"


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


# --- one rank refuses ---------------------------------------------------------------------------------------------


def refuse_on_one_rank(workers: Workers, report: Report, *, directory: Path) -> None:
    count_calls(directory, workers)
    if workers.rank == 1:
        raise DataError("row 7: no text; drop it")
    workers.sum(torch.ones(1))  # waits for a rank that never comes


@pytest.mark.slow
def test_what_one_rank_refuses_ends_the_group_and_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^row 7: no text; drop it$"):
        run_in_workers(partial(refuse_on_one_rank, directory=tmp_path), config(), tmp_path / "ray", "refuse")
    assert sorted(path.name for path in tmp_path.glob("call-*")) == ["call-0-1", "call-1-1"]


def test_of_all_errors_of_a_group_the_refusal_is_picked() -> None:
    errors = {0: RuntimeError("connection closed by peer"), 1: DataError("row 7: no text; drop it")}
    with pytest.raises(DataError, match="row 7"):
        EndOnRefusal().after_exception(None, errors)
    EndOnRefusal().after_exception(None, {0: errors[0]})


# --- attempts -----------------------------------------------------------------------------------------------------


class Attempts:
    """Stands for trainers that end as they are told, one after the other."""

    def __init__(self, *ends: Exception | str) -> None:
        self._ends = list(ends)
        self.timeouts: list[str] = []

    def fit(self) -> Any:
        self.timeouts.append(os.environ[TIMEOUT])
        end = self._ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return type("Result", (), {"return_value": end})


Play = Callable[..., Attempts]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.delenv(TIMEOUT, raising=False)

    def prepare(*ends: Exception | str) -> Attempts:
        attempts = Attempts(*ends)
        monkeypatch.setattr(trainer, "_trainer", lambda *_: attempts)
        return attempts

    return prepare


def work(tmp_path: Path, **training: Any) -> Any:
    return run_in_workers(partial(report_twice, directory=tmp_path), config(**training), tmp_path, "test")


LOST_CONTROLLER = ActorDiedError()
LOST_REPORT = ControllerError(ConnectionError("whoever watches is gone"))
LOST_WORKERS = WorkerGroupError("killed", {1: RuntimeError("killed")})


def test_a_controller_is_replaced_as_often_as_the_experiment_says(play: Play, tmp_path: Path) -> None:
    attempts = play(LOST_CONTROLLER, LOST_REPORT, "done")
    assert work(tmp_path, max_failures=2) == "done"
    assert attempts.timeouts == ["120.0"] * 3 and TIMEOUT not in os.environ
    play(LOST_CONTROLLER, LOST_REPORT, "done")
    with pytest.raises(ControllerError, match="whoever watches is gone"):
        work(tmp_path, max_failures=1)


def test_workers_that_ray_has_given_up_on_are_not_tried_again(play: Play, tmp_path: Path) -> None:
    attempts = play(LOST_WORKERS, "done")
    with pytest.raises(WorkerGroupError):
        work(tmp_path, max_failures=2)
    assert len(attempts.timeouts) == 1


def test_a_refusal_reaches_the_caller_as_it_was_raised(play: Play, tmp_path: Path) -> None:
    refusal = DataError("row 7: no text; drop it")
    attempts = play(ControllerError(refusal), "done")
    with pytest.raises(DataError) as caught:
        work(tmp_path)
    assert caught.value is refusal and len(attempts.timeouts) == 1


def test_an_elastic_group_waits_less_long_for_its_full_size(play: Play, tmp_path: Path) -> None:
    attempts = play(ControllerError(WorkerGroupStartupTimeoutError(2)), "done")
    with pytest.raises(StudyError, match=r"there was no room for 1 workers of \(1 CPU\)"):
        work(tmp_path, min_workers=1)
    assert attempts.timeouts == ["20.0"]


def test_the_time_that_the_user_gives_a_group_is_kept(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIMEOUT, "7")
    attempts = play("done")
    work(tmp_path)
    assert attempts.timeouts == ["7"] and os.environ[TIMEOUT] == "7"


# --- what happens to controllers ----------------------------------------------------------------------------------


def report_twice(workers: Workers, report: Report, *, directory: Path) -> int:
    calls = count_calls(directory, workers)
    for _ in range(2):
        report({"calls": calls})
    return calls


class LoseTwoControllers(UserCallback):
    """The first controller fails to pass a report on, the second one is killed."""

    def __init__(self, directory: Path) -> None:
        self._first, self._second = directory / "first", directory / "second"

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        if not self._first.exists():
            self._first.touch()
            raise ConnectionError("whoever watches is gone")
        if not self._second.exists():
            self._second.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.cluster
def test_a_controller_that_is_lost_leaves_its_room_to_the_next(tmp_path: Path) -> None:
    """The machine has room for one group only: the next one could not start while anything of the last is held."""
    half = ray.nodes()[0]["Resources"]["CPU"] / 2
    whole_machine = config(max_failures=2, resources_per_worker={"CPU": half})
    function, lose = partial(report_twice, directory=tmp_path), LoseTwoControllers(tmp_path)
    assert run_in_workers(function, whole_machine, tmp_path / "ray", "lost", [lose]) == 3


@pytest.mark.cluster
def test_no_room_for_the_group_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT, "0.5")
    big = config(resources_per_worker={"CPU": 1000}, max_failures=0)
    with pytest.raises(StudyError, match=r"^there was no room for 2 workers of \(1000 CPU\)"):
        run_in_workers(partial(report_twice, directory=tmp_path), big, tmp_path / "ray", "room")
    assert not list(tmp_path.glob("call-*"))
