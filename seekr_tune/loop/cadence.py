"""When a task that is being learned is saved."""

from __future__ import annotations

from seekr_tune.checkpoint.state import StepRecord
from seekr_tune.config import TrainingConfig


class Cadence:
    """Every so many steps, and whenever enough time has passed.

    Counts the seconds that the records name, which are rank 0's on every rank: so all ranks agree without asking.
    """

    def __init__(self, training: TrainingConfig) -> None:
        self._steps, self._seconds = training.checkpoint_steps, training.checkpoint_seconds
        self._passed = 0.0

    def is_due(self, record: StepRecord) -> bool:
        """Whether to save now, right after this step; the time starts anew if so."""
        self._passed += record.seconds
        by_step = self._steps is not None and (record.step + 1) % self._steps == 0
        by_time = self._seconds is not None and self._passed >= self._seconds
        if by_step or by_time:
            self._passed = 0.0
        return by_step or by_time
