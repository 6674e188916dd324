"""What listens, listens on this machine only, and lets nobody run code."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap

import psutil
import pytest

from seekr_tune.cli.dashboard import dashboard, tensorboard
from tests.waiting import PATIENCE

KIND = "server"


@pytest.mark.parametrize("command", [dashboard, tensorboard])
def test_a_command_listens_on_loopback_by_default(command: object) -> None:
    assert inspect.signature(command).parameters["host"].default == "127.0.0.1"  # type: ignore[arg-type]


SESSION = """
    import os, ray, sys
    from seekr_tune.cluster.session import ray_session
    with ray_session():
        print(ray.get_runtime_context().gcs_address, flush=True)
        sys.stdin.readline()
"""
JOIN = "import ray; ray.init(address=ADDRESS, log_to_driver=False); print(ray.get(ray.remote(lambda: 'ran').remote()))"


@pytest.fixture(scope="module")
def session() -> object:
    """A private session of Ray in another process; the process, and the session's address."""
    code = textwrap.dedent(SESSION)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None and it.stdin is not None
        yield it, it.stdout.readline().strip()
        it.stdin.write("\n")
        it.stdin.close()


@pytest.mark.ray
def test_every_port_of_a_private_session_is_of_loopback(session: tuple[subprocess.Popen[str], str]) -> None:
    process, _ = session
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    listening = {
        connection.laddr.ip
        for member in family
        for connection in member.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening and listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.mark.ray
@pytest.mark.parametrize("token", [None, pytest.param("0123456789abcdef0123456789abcdef", marks=pytest.mark.slow)])
def test_a_private_session_lets_nobody_in_without_its_token(
    session: tuple[subprocess.Popen[str], str], token: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _, address = session
    stranger = {**os.environ, "HOME": str(tmp_path_factory.mktemp("stranger"))}
    stranger["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else Ray looks at another address of this machine
    stranger |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-c", JOIN.replace("ADDRESS", repr(address))],
        env=stranger,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode != 0 and "ran" not in done.stdout
    assert "uthentication" in done.stderr or "token" in done.stderr
