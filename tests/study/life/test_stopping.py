"""Asking a study to stop: by a file, by Ctrl-C, by SIGTERM, by `seekr-tune stop`."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seekr_tune.config import Config
from seekr_tune.errors import StudyError
from seekr_tune.experiment import dump_config
from seekr_tune.study.directory.layout import experiment_path, stop_path
from seekr_tune.study.directory.lock import StudyLock, living_driver
from seekr_tune.study.life.stopping import StopFile, stop_study, stopped_by_signals
from tests.waiting import PATIENCE


@pytest.fixture
def stop(tmp_path: Path) -> StopFile:
    return StopFile(tmp_path / "study" / "stop")


@pytest.fixture
def study(tmp_path: Path, config: Config) -> Path:
    directory = tmp_path / "study"
    directory.mkdir()
    experiment_path(directory).write_text(dump_config(config))
    return directory


def test_a_request_reaches_every_process_that_sees_the_file(stop: StopFile) -> None:
    elsewhere = pickle.loads(pickle.dumps(stop))
    assert not stop() and not elsewhere()
    stop.ask()
    stop.ask()
    assert stop() and elsewhere()
    elsewhere.take_back()
    elsewhere.take_back()
    assert not stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_once_and_the_handlers_come_back(stop: StopFile, number: int) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    said: list[str] = []
    with stopped_by_signals(stop, said.append):
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        os.kill(os.getpid(), signal.SIGTERM)  # a batch system that is impatient gets no less
    assert len(said) == 1 and said[0].startswith("stopping")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_ends_at_once(stop: StopFile) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stopped_by_signals(stop, lambda text: None):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_ends_at_once_where_the_request_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stop = StopFile(tmp_path / "file" / "stop")
    with pytest.raises(KeyboardInterrupt), stopped_by_signals(stop, lambda text: None):
        os.kill(os.getpid(), signal.SIGINT)


def test_another_thread_than_the_main_one_leaves_signals_alone(stop: StopFile) -> None:
    seen: list[object] = []

    def drive() -> None:
        with stopped_by_signals(stop, lambda text: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=drive)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


@contextmanager
def driver_of(directory: Path, seconds: float) -> Iterator[threading.Event]:
    """A driver whose step takes so long after it was asked to stop."""
    ready, ended = threading.Event(), threading.Event()

    def drive() -> None:
        with StudyLock(directory):
            ready.set()
            while not StopFile(stop_path(directory))():
                time.sleep(0.01)
            ended.wait(seconds)

    thread = threading.Thread(target=drive)
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield ended
    finally:
        ended.set()
        thread.join(PATIENCE)


def test_stop_waits_until_the_driver_has_ended(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seekr_tune.study.life.stopping._EXIT_SECONDS", 0.0)  # the driver is a thread of this process
    said: list[str] = []
    with driver_of(study, 0.5):
        assert stop_study(study, timeout=PATIENCE, say=said.append)
        assert living_driver(study) is None
    assert f"asked process {os.getpid()} on " in said[0]
    assert not stop_path(study).exists()


def test_stop_tells_when_the_steps_take_longer(study: Path) -> None:
    with driver_of(study, PATIENCE):
        with pytest.raises(StudyError, match="has not ended its steps after 0.3 s"):
            stop_study(study, timeout=0.3)
        assert stop_path(study).exists(), "the request stands"


def test_there_is_nothing_to_stop_where_nobody_runs(study: Path) -> None:
    assert not stop_study(study)
    assert not stop_path(study).exists()


def test_a_directory_without_a_study_cannot_be_stopped(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        stop_study(tmp_path)
    assert not list(tmp_path.iterdir())
