"""What a run spent its time on: parts that add up to its wall time, and beside them what it was spared.

Steps that were taken from another run keep their seconds in the `timing` table, so that speeds can be had from it; they
are no time of this run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PARTS = ("new", "replay", "distillation", "teacher", "evaluation", "checkpoint", "rest")
"""What a run spends time on; `replay` without its distillation, `rest`: loading, waiting, saving at a task's end."""


def spent_seconds(rows: Sequence[Mapping[str, Any]], wall_seconds: float) -> dict[str, float]:
    """Seconds of one run by part; they add up to its wall time. `spared` comes besides, and is none of it.

    Args:
        rows: of the run in the `timing` table.
        wall_seconds: of the run.
    """
    parts = dict.fromkeys(PARTS, 0.0)
    for row in rows:
        for part, seconds in _own(row).items():
            parts[part] += seconds
    # What the wall time has no room for was not spent: results that were taken over as they were, and steps of which
    # an earlier version did not say that they were spared.
    excess = sum(parts.values()) - wall_seconds
    for part in PARTS if excess > 0 else ():
        taken = min(parts[part], excess)
        parts[part], excess = parts[part] - taken, excess - taken
    parts["rest"] = max(0.0, wall_seconds - sum(parts.values()))
    return {**parts, "spared": sum(row["shared_seconds"] for row in rows)}


def _own(row: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of one stage that the run itself spent."""
    spared = row["shared_step_seconds"] or 0.0
    return {
        "new": max(0.0, row["new_seconds"] - spared),
        "replay": row["replay_seconds"] - row["distillation_seconds"],
        "distillation": row["distillation_seconds"],
        "teacher": row["teacher_seconds"],
        "evaluation": row["evaluation_seconds"],
        "checkpoint": row["checkpoint_seconds"],
    }
