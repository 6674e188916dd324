"""Seeing a run that other processes do, by the record that they replace after every task."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seekr_tune.records import TrialRecord, read_record

_POLL_SECONDS = 0.5


@contextmanager
def polled(look: Callable[[], None], seconds: float) -> Iterator[None]:
    """For the time of the block, call `look` every so many seconds, and once more when it ends."""
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(seconds):
            look()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()


@contextmanager
def watched(path: Path, on_task: Callable[[TrialRecord], None]) -> Iterator[None]:
    """For the time of the block, call `on_task` with the record at `path` whenever more tasks are finished."""
    seen = read_record(path).tasks_done if path.is_file() else 0

    def look() -> None:
        nonlocal seen
        record = read_record(path) if path.is_file() else None
        if record is not None and record.tasks_done > seen:
            seen = record.tasks_done
            on_task(record)

    with polled(look, _POLL_SECONDS):
        yield
