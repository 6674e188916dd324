"""Ending a run between two steps, because somebody asked for it."""

from __future__ import annotations

from collections.abc import Callable

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.methods.workers import Workers

StopAsked = Callable[[], bool]
"""Says whether the run shall end; asked on rank 0."""

_SECONDS = 1.0
"""Time of steps between two questions, where the answer has to travel."""


class RunStopped(Exception):
    """Leaves the loop from where the run was asked to stop; `StreamRun.outcomes` ends quietly on it."""


class StopPoll:
    """Asks rank 0 whether to stop; all ranks hear the same answer.

    Args:
        stop_asked: None: nobody ever asks.
        workers: the processes that share the run; every rank makes the same calls.
    """

    def __init__(self, stop_asked: StopAsked | None, workers: Workers) -> None:
        self.stop_asked, self._workers = stop_asked, workers
        self._passed = 0.0

    def is_asked(self) -> bool:
        """Ask now."""
        stop_asked = self.stop_asked
        return stop_asked is not None and self._workers.broadcast(stop_asked)

    def is_asked_after(self, record: StepRecord) -> bool:
        """Ask after a step; with several ranks about once a second, by rank 0's clock, which the records name."""
        self._passed += record.seconds
        if self._workers.world_size > 1 and self._passed < _SECONDS:
            return False
        self._passed = 0.0
        return self.is_asked()
