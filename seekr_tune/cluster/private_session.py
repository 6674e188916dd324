"""A private Ray session on this machine: no other user gets into it, and nothing of it is left behind."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seekr_tune.cluster.environment import DRIVER, EVERYWHERE, our_job, ray_environment, starting
from seekr_tune.cluster.private_directory import private_directory
from seekr_tune.documents import read_bytes
from seekr_tune.errors import StudyError, UserError

_LOCAL = {
    # Ray takes the loopback address for its node, and with it binds every port to 127.0.0.1: other users of the machine
    # can reach it there, but cannot run code through it without the token.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody takes this machine away with a notice
}

_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

_EXCEPTION = re.compile(r"[\w.]*(?:Error|Exception): .+")
"""The last line of a traceback."""

_SEVERE = re.compile(r"\[[^\]]* ([EFC]) \d+ \d+\] (?:\([^)]*\) )?(?:[\w./]+:\d+: +)?(?:.* (?=Check failed))?(.+)")
"""A line of a process that is not Python: an error, or what it died of."""


@contextmanager
def private_session() -> Iterator[None]:
    """A session for the time of the block.

    Raises:
        StudyError: Ray does not start on this machine, or there is no place for its files.
    """
    with private_directory() as directory, _settings(directory):
        import ray

        with starting():
            _start(directory / "r")
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _settings(directory: Path) -> Iterator[None]:
    """What the session starts with, its own token too: Ray would write one into the home of the user."""
    values = EVERYWHERE | DRIVER | _LOCAL
    if not any(name in os.environ for name in _TOKENS):
        token = directory / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        values |= {"RAY_AUTH_TOKEN_PATH": str(token)}
    try:
        with ray_environment(values):
            _read_token_again()
            yield
    finally:
        _read_token_again()


def _start(directory: Path) -> None:
    """Start Ray, with its files in a directory.

    Raises:
        StudyError: its processes do not come up, which they must within 30 s.
    """
    import ray

    try:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            job_config=our_job(),
            _temp_dir=str(directory),
        )
    except Exception as error:  # Ray has no kind of its own for it
        found = _found_in_logs(directory)
        ray.shutdown()  # what has come up already
        reason = " ".join(str(error).split())
        raise StudyError(f"Ray does not start on this machine ({reason}); {found}") from error


def _found_in_logs(directory: Path) -> str:
    """What is to be said of the cause: an exception, else what a process died of last or complained of. Without an
    exception it is most often time that was too short."""
    exceptions: list[str] = []
    severe: list[tuple[bool, str, str]] = []
    for path in sorted(directory.glob("session_2*/logs/*.*")):
        try:
            lines = read_bytes(path).decode(errors="replace").splitlines()
        except UserError:  # a pipe of Ray's, or a log that is too long to look through
            continue
        exceptions += filter(_EXCEPTION.match, lines)
        severe += [(match[1] in "FC", match[0], match[2]) for match in map(_SEVERE.match, lines) if match]
    if exceptions:
        return f"its log says: {exceptions[-1]}"
    said = f" (its log says: {max(severe)[2].strip()})" if severe else ""
    return f"it may be busy or short of memory{said}: give the command again"


def _read_token_again() -> None:
    """Ray keeps the token, and whether it needs one, for as long as the process lives."""
    from ray import _raylet

    compiled: Any = _raylet
    compiled.AuthenticationTokenLoader.instance().reset_cache()
    compiled.Config.initialize("")
