"""A private session starts wherever the user's files lie, and no other user gets near its sockets."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from seekr_tune.cluster import private_session as module
from seekr_tune.cluster.private_directory import private_directory
from seekr_tune.cluster.private_session import private_session
from seekr_tune.errors import StudyError
from tests.waiting import PATIENCE

TOKEN = "RAY_AUTH_TOKEN_PATH"
STRANGER = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
ENTER = """
import os, socket, sys
directory, raylet = sys.argv[1:]
for attempt in (os.listdir, os.rmdir, lambda path: os.rename(path, path + "x"), lambda path: open(path + "/token")):
    try:
        attempt(directory)
    except PermissionError:
        continue
    sys.exit("got in")
try:
    socket.socket(socket.AF_UNIX).connect(raylet)
except PermissionError:
    print("kept out")
"""


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of where Ray's files lie, or of its token."""
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN", TOKEN, "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


def directory_of_session() -> Path:
    """The private directory of the session that this process is in."""
    return Path(os.environ[TOKEN]).parent


def require_an_answer() -> None:
    assert ray.get(ray.remote(num_cpus=0)(lambda: 42).remote(), timeout=PATIENCE) == 42


@pytest.mark.ray
def test_a_session_with_a_long_tmpdir_and_no_home(plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long, nowhere = tmp_path / ("l" * 90), tmp_path / "file"
    long.mkdir()
    nowhere.touch()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setenv("HOME", str(nowhere / "home"))
    with private_session():
        require_an_answer()
        directory = directory_of_session()
        assert directory.parent == Path(os.path.realpath("/tmp"))
        found, token = directory.stat(), (directory / "token").stat()
        assert stat.S_IMODE(found.st_mode) == 0o700 and found.st_uid == os.geteuid()
        assert stat.S_IMODE(token.st_mode) == 0o600
        sockets = [path for path in directory.rglob("*") if path.is_socket()]
        assert {"raylet", "plasma_store"} <= {path.name for path in sockets}, "everything that can be entered is inside"
        if os.geteuid() == 0 and shutil.which("setpriv"):
            raylet = next(path for path in sockets if path.name == "raylet")
            done = subprocess.run(
                [*STRANGER, "/usr/bin/python3", "-c", ENTER, str(directory), str(raylet)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stdout == "kept out\n", done.stderr
    assert not directory.exists() and TOKEN not in os.environ
    assert list(long.iterdir()) == []


@pytest.mark.ray
def test_a_session_where_ray_s_own_directory_is_not_ours_to_use(
    plain: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Path("/tmp") / f"seekr-test-{os.getpid()}"
    base.mkdir(mode=0o700)
    try:
        (base / "ray").touch()  # where Ray by itself would keep its files
        monkeypatch.setenv("RAY_TMPDIR", str(base))
        with private_session():
            require_an_answer()
            directory = directory_of_session()
            assert directory.parent == base.resolve()
            started = [path for path in directory.glob("r/session_2*/logs/*") if path.is_file()]
            assert started, "its logs are inside, too"
        assert [path.name for path in base.iterdir()] == ["ray"]
    finally:
        shutil.rmtree(base)


@pytest.mark.ray
def test_what_a_killed_session_left_goes_with_the_next(plain: None, tmp_path: Path) -> None:
    code = (
        f"import os, sys; from seekr_tune.cluster.private_session import private_session\n"
        f"with private_session(): print(os.path.dirname(os.environ[{TOKEN!r}]), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdout is not None
        left = Path(session.stdout.readline().strip())
        assert (left / "r").is_dir()
        session.send_signal(signal.SIGKILL)
    with private_directory():
        assert not left.exists()


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_place_that_cannot_be_used_is_named(
    plain: None, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seekr_tune.cluster import private_directory as directory_module

    monkeypatch.setattr(directory_module, "_most_bytes", lambda: 4096)
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    with pytest.raises(StudyError, match=f"{variable}={tmp_path}/file: cannot be written to .File exists."):
        with private_session():
            pass
    assert not ray.is_initialized()


def test_what_the_user_says_of_the_token_holds(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    seen: dict[str, str | None] = {}
    monkeypatch.setattr(module, "_start", lambda directory: seen.update(os.environ))
    with private_session():
        pass
    assert TOKEN not in seen and seen["RAY_AUTH_MODE"] == "disabled"


# --- Ray that does not start --------------------------------------------------------------------------------------

DIED = (
    "[2026-11-30 17:19:47,613 C 6951 6951] (raylet) node_manager.cc:3576:  An unexpected system state has occurred. "
    "Please report it. Check failed: port.has_value() Timed out waiting for file /x/port\n    /lib/x86_64 [0x7f]"
)
COMPLAINED = "[2026-11-30 17:20:47,613 E 6951 6951] (gcs_server) gcs.cc:7: a complaint that is later, and weighs less"
NO_NEWS = "[2026-11-30 17:29:12,745 I 13377 13377] (raylet) main.cc:283: Setting cluster ID to: af69b89c"


def refused_with(monkeypatch: pytest.MonkeyPatch, **logs: str) -> str:
    """What is said when Ray gives up and its processes have written these logs."""

    def fail(*, _temp_dir: str, **options: Any) -> None:
        folder = Path(_temp_dir) / "session_2026-11-30" / "logs"
        folder.mkdir(parents=True)
        for name, text in logs.items():
            (folder / f"{name}.err").write_text(f"{text}\n")
        raise Exception("The current node\ntimed out.")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(StudyError) as refused, private_session():
        pass
    assert "\n" not in str(refused.value) and not ray.is_initialized()
    return str(refused.value).removeprefix("Ray does not start on this machine (The current node timed out.); ")


def test_the_cause_is_what_ray_s_processes_say(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    traceback = "Traceback (most recent call last):\n  File x\nModuleNotFoundError: No module named 'aiohttp'"
    assert refused_with(monkeypatch, raylet=DIED, agent=traceback) == (
        "its log says: ModuleNotFoundError: No module named 'aiohttp'"
    )
    assert refused_with(monkeypatch, raylet=f"{NO_NEWS}\n{DIED}", gcs=COMPLAINED) == (
        "it may be busy or short of memory (its log says: Check failed: port.has_value() Timed out waiting for file "
        "/x/port): give the command again"
    )
    assert refused_with(monkeypatch, gcs=COMPLAINED) == (
        "it may be busy or short of memory (its log says: a complaint that is later, and weighs less): give the "
        "command again"
    )
    assert refused_with(monkeypatch, raylet=NO_NEWS) == ("it may be busy or short of memory: give the command again")
