"""Waiting for what must happen, however slow the machine is: tests wait for events, and time only ends what hangs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

PATIENCE = float(os.environ.get("SEEKR_TEST_PATIENCE", "600"))
"""Seconds after which a test takes what it waits for as hanging; nothing is slower by right, at any load."""


def wait_until(holds: Callable[[], object], what: str, seconds: float = 0.02) -> None:
    """Return as soon as `holds()` does.

    Args:
        holds: asked over and over.
        what: is waited for; stands in the error.
        seconds: between two questions.

    Raises:
        AssertionError: it does not come.
    """
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(seconds)
