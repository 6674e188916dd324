"""Stopping a study or a run: its steps are finished and saved, and it can be resumed.

A request to stop is a file, so that it reaches every process that sees the directory, whoever asks: Ctrl-C, SIGTERM (a
batch system that wants its machines back), or `seekr-tune stop` from elsewhere.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from seekr_tune.atomic_files import write_atomically
from seekr_tune.errors import StudyError
from seekr_tune.study.directory.layout import stop_path
from seekr_tune.study.directory.links import require_no_links
from seekr_tune.study.directory.lock import Claim, living_driver, require_study

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_SECONDS = 0.2
_EXIT_SECONDS = 5.0


@dataclass(frozen=True)
class StopFile:
    """Asks whether to stop; travels to the processes that train.

    Attributes:
        path: there when somebody asked.
        claim: of the driver that the processes work for: they stop, too, when another one has taken over.
    """

    path: Path
    claim: Claim | None = None

    def __call__(self) -> bool:
        return self.path.exists() or (self.claim is not None and self.claim.replaced_by() is not None)

    def ask(self) -> None:
        """Ask to stop."""
        write_atomically(self.path, b"")

    def take_back(self) -> None:
        """As if nobody had asked."""
        self.path.unlink(missing_ok=True)


@contextmanager
def stopped_by_signals(stop: StopFile, say: Callable[[str], None]) -> Iterator[None]:
    """For the time of the block, SIGINT and SIGTERM ask to stop, and a second SIGINT ends at once.

    In another thread than the main one, Python leaves signals alone, and so does this.

    Args:
        stop: the request.
        say: shows one line.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = _Signals(stop, say)
    before: dict[int, Any] = {number: signal.signal(number, signals) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Signals:
    """The handler."""

    stop: StopFile
    say: Callable[[str], None]
    came: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.came = True
        try:
            self.stop.ask()
        except OSError:  # a full disk: nobody would see the request
            raise KeyboardInterrupt from None
        self.say("stopping: the steps that are running are finished and saved; Ctrl-C again ends at once")


def stop_study(directory: Path | str, timeout: float = 600.0, say: Callable[[str], None] = lambda text: None) -> bool:
    """Ask the process that runs a study to stop, and wait until it has.

    Args:
        directory: the study's directory.
        timeout: seconds to wait for the running steps.
        say: shows one line.

    Returns:
        Whether somebody ran it.

    Raises:
        StudyError: no study is there, a link stands where something is written, or it still runs after `timeout` (and
            will stop at its next step).
    """
    directory = Path(directory).absolute()
    driver = living_driver(directory)
    if driver is None:  # else one that is being started can be stopped, too
        require_study(directory)
    require_no_links(directory)
    if driver is None:
        return False
    stop = StopFile(stop_path(directory))
    stop.ask()
    say(f"asked {driver} to stop; waiting until its steps are finished and saved")
    deadline = time.monotonic() + timeout
    while (now := living_driver(directory)) is not None and (now.pid, now.since) == (driver.pid, driver.since):
        if time.monotonic() > deadline:
            raise StudyError(
                f"{directory}: {driver} has not ended its steps after {timeout:g} s; it stops when they are done: "
                "wait, or give the command again"
            )
        time.sleep(_POLL_SECONDS)
    if now is None:
        stop.take_back()  # the driver may have been killed meanwhile
    deadline = time.monotonic() + _EXIT_SECONDS  # its process ends a moment after its work, unless it is a notebook
    while driver.is_alive_here and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return True
