"""Threads that a test leaves behind: what they do later happens in the middle of another test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.waiting import PATIENCE

OF_THE_PROCESS = {
    "asyncio_": "workers of an event loop's pool, which wait for more work",
    "ray_": "Ray's own, of a session that other tests use",
    "tqdm": "the one monitor of all progress bars",
}
"""Beginnings of names of threads that serve a whole process, and why they may stay."""
_SECONDS_TO_END = min(10.0, PATIENCE)


@contextmanager
def none_left() -> Iterator[None]:
    """For the time of a test.

    Raises:
        AssertionError: a thread that began in the block is still there, and does not end by itself soon.
    """
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not _may_stay(thread)]
    for thread in left:
        thread.join(_SECONDS_TO_END)
    names = sorted(f"{thread.name} ({_of(thread)})" for thread in left if thread.is_alive())
    assert not names, f"leaves threads behind: {', '.join(names)}; end what began them"


def _may_stay(thread: threading.Thread) -> bool:
    return thread is threading.current_thread() or thread.name.startswith(tuple(OF_THE_PROCESS))


def _of(thread: threading.Thread) -> str:
    target = getattr(thread, "_target", None)
    return getattr(target, "__qualname__", None) or type(thread).__qualname__
