"""The parts of a run's time add up to its wall time, whatever it was spared."""

from __future__ import annotations

from typing import Any

import pytest

from seekr_tune.analysis.spent import PARTS, spent_seconds


def stage(**values: float | None) -> dict[str, Any]:
    """A row of the `timing` table: 30 s of steps, 4 s of reading and 6 s of scoring."""
    row = {"new_seconds": 20.0, "replay_seconds": 10.0, "distillation_seconds": 4.0, "teacher_seconds": 4.0}
    row |= {"evaluation_seconds": 6.0, "checkpoint_seconds": 1.0, "shared_seconds": 0.0, "shared_step_seconds": 0.0}
    return row | values


FIRST = {"replay_seconds": 0.0, "distillation_seconds": 0.0, "evaluation_seconds": 0.0}
"""A first stage: nothing to replay, and here its scores are taken from another run."""


@pytest.mark.parametrize(
    ("rows", "wall", "new", "rest", "spared"),
    [
        ([stage(), stage()], 100.0, 40.0, 18.0, 0.0),
        ([stage(**FIRST, shared_seconds=26.0, shared_step_seconds=20.0), stage()], 50.0, 20.0, 4.0, 26.0),
        ([stage(**FIRST, shared_seconds=12.0, shared_step_seconds=7.0), stage()], 62.0, 33.0, 3.0, 12.0),
        # An earlier version did not say how much were steps; there is no more room in the wall time.
        ([stage(**FIRST, shared_seconds=26.0, shared_step_seconds=None), stage()], 50.0, 24.0, 0.0, 26.0),
        ([stage(shared_seconds=40.0, shared_step_seconds=30.0)] * 3, 0.0, 0.0, 0.0, 120.0),
        ([stage(shared_seconds=40.0, shared_step_seconds=None)] * 3, 0.0, 0.0, 0.0, 120.0),
    ],
)
def test_parts_add_up_to_the_wall_time(
    rows: list[dict[str, Any]], wall: float, new: float, rest: float, spared: float
) -> None:
    found = spent_seconds(rows, wall)
    assert sum(found[part] for part in PARTS) == pytest.approx(wall)
    assert (found["new"], found["rest"], found["spared"]) == pytest.approx((new, rest, spared))
    assert min(found.values()) >= 0
