"""One writer of a study at a time, on one machine and on several that share a disk."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

import seekr_tune.study.directory.lock as lock_module
from seekr_tune.errors import ConfigError, StudyError
from seekr_tune.study.directory.layout import driver_path, stop_path
from seekr_tune.study.directory.lock import STALE_SECONDS, StudyLock, living_driver, require_study
from seekr_tune.study.life.stopping import StopFile
from tests.waiting import wait_until


def write_driver(directory: Path, pid: int, host: str, age: float = 0.0) -> Path:
    path = driver_path(directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pid": pid, "host": host, "since": "2026-01-02 03:04:05 UTC"}))
    touched = time.time() - age
    os.utime(path, (touched, touched))
    return path


def dead_pid() -> int:
    """Of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_holder_is_named_while_it_works_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with StudyLock(tmp_path) as lock:
        driver = living_driver(tmp_path)
        assert driver is not None and (driver.pid, driver.host) == (os.getpid(), socket.gethostname())
        assert driver.slots is None
        lock.note_slots(3)
        noted = living_driver(tmp_path)
        assert noted is not None and noted.slots == 3 and noted.since == driver.since
    assert living_driver(tmp_path) is None
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {".lock"}


def test_a_driver_whose_study_was_moved_writes_nothing_under_the_old_name(tmp_path: Path) -> None:
    study = tmp_path / "study"
    with StudyLock(study) as lock:
        study.rename(tmp_path / "other")
        for ask in (lock.require_there, lambda: lock.note_slots(2)):
            with pytest.raises(
                StudyError, match=f"{study}: was moved or deleted .*go on with `seekr-tune resume {study}`"
            ):
                ask()
        with pytest.raises(StudyError, match="is being run by"), StudyLock(tmp_path / "other"):
            pass  # which its driver still holds
    assert not study.exists()
    with StudyLock(tmp_path / "other"):
        pass


def test_a_start_that_is_refused_leaves_nothing_that_it_made(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    for name in ("runs/deep/study", "mine"):
        with pytest.raises(ConfigError), StudyLock(tmp_path / name):
            (tmp_path / name / "log.jsonl").touch()
            raise ConfigError("no")
    assert {path.name for path in tmp_path.rglob("*")} == {"mine", "notes.txt"}


def test_a_study_that_is_being_started_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study; look elsewhere"):
        require_study(tmp_path, "look elsewhere")
    with StudyLock(tmp_path), pytest.raises(StudyError) as refused:
        require_study(tmp_path)
    told = f"{tmp_path}: a study is being started there by process {os.getpid()} on {socket.gethostname()}"
    assert str(refused.value).startswith(told) and f"`seekr-tune stop {tmp_path}`" in str(refused.value)


def test_a_second_writer_is_refused_by_process_host_and_time(tmp_path: Path) -> None:
    with StudyLock(tmp_path):
        driver = living_driver(tmp_path)
        assert driver is not None
        with pytest.raises(StudyError) as refused, StudyLock(tmp_path):
            pass
        told = f"process {os.getpid()} on {socket.gethostname()} since {driver.since}"
        assert told in str(refused.value) and f"`seekr-tune stop {tmp_path}`" in str(refused.value)
        assert living_driver(tmp_path) == driver, "who is refused must not disturb the first"


def test_a_writer_without_a_name_is_refused_too(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(StudyError, match="is being run by another process"):
        StudyLock(tmp_path).__enter__()


def test_a_heartbeat_of_another_machine_counts_where_its_lock_does_not(tmp_path: Path) -> None:
    write_driver(tmp_path, 4321, "node7")
    with pytest.raises(StudyError, match="process 4321 on node7 since 2026-01-02 03:04:05 UTC"), StudyLock(tmp_path):
        pass
    assert driver_path(tmp_path).is_file()
    with StudyLock(tmp_path / "another"):  # the refused lock was given back: it does not block others
        pass


def test_a_driver_elsewhere_that_is_silent_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_driver(tmp_path, 4321, "node7", age=STALE_SECONDS + 5)
    assert living_driver(tmp_path) is None
    with caplog.at_level(logging.WARNING), StudyLock(tmp_path):
        driver = living_driver(tmp_path)
        assert driver is not None and driver.pid == os.getpid()
    assert "process 4321 on node7" in caplog.text


def test_a_dead_process_of_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    write_driver(tmp_path, dead_pid(), socket.gethostname())
    assert living_driver(tmp_path) is None
    with StudyLock(tmp_path):
        assert living_driver(tmp_path) is not None


@pytest.mark.parametrize("garbage", [b"", b"\x00\xff", b"[1, 2]", b'{"pid": "x"}', b'{"pid": null, "host": 1}'])
def test_a_damaged_driver_file_does_not_stand_in_the_way(
    tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write_driver(tmp_path, 1, "x").write_bytes(garbage)
    (tmp_path / ".lock").write_bytes(garbage)
    assert living_driver(tmp_path) is None
    with caplog.at_level(logging.WARNING), StudyLock(tmp_path):
        assert living_driver(tmp_path) is not None
    assert "is damaged" in caplog.text
    assert not driver_path(tmp_path).exists()


def test_a_full_disk_is_said_before_anything_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lock_module, "write_atomically", full)
    with pytest.raises(StudyError, match="no space left on its disk; make room, then give the command again"):
        StudyLock(tmp_path).__enter__()
    monkeypatch.undo()
    with StudyLock(tmp_path):  # the lock was given back
        pass


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "BEAT_SECONDS", 0.01)
    with StudyLock(tmp_path):
        path = driver_path(tmp_path)
        os.utime(path, (1.0, 1.0))
        wait_until(lambda: path.stat().st_mtime != 1.0, "somebody touches the file")
        assert path.stat().st_mtime > time.time() - 3600  # with the time that it is


def test_who_was_replaced_while_it_slept_leaves_the_other_alone(tmp_path: Path) -> None:
    with StudyLock(tmp_path):
        write_driver(tmp_path, 4321, "node7")
    assert json.loads(driver_path(tmp_path).read_text())["pid"] == 4321


def test_the_processes_of_a_driver_stop_when_another_one_has_taken_over(tmp_path: Path) -> None:
    with StudyLock(tmp_path) as lock:
        stop = StopFile(stop_path(tmp_path), lock.claim)
        lock.note_slots(2)
        assert not stop()
        write_driver(tmp_path, 4321, "node7")
        assert stop() and str(lock.claim.replaced_by()).startswith("process 4321 on node7")
        stop_path(tmp_path).touch()
    assert stop_path(tmp_path).exists(), "that request is for the other one"


def test_a_claim_holds_while_nobody_else_is_named(tmp_path: Path) -> None:
    with StudyLock(tmp_path) as lock:
        driver_path(tmp_path).write_bytes(b"garbage")
        assert lock.claim.replaced_by() is None
        driver_path(tmp_path).unlink()
        assert lock.claim.replaced_by() is None


def test_a_request_to_stop_that_nobody_obeyed_does_not_stop_the_next_driver(tmp_path: Path) -> None:
    stop_path(tmp_path).parent.mkdir()
    stop_path(tmp_path).touch()
    with StudyLock(tmp_path):
        assert not stop_path(tmp_path).exists()
        stop_path(tmp_path).touch()
    assert not stop_path(tmp_path).exists()
