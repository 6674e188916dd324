"""What a record says of the replay of one task, for records that are made up."""

from __future__ import annotations

from seekr_tune.records import ReplayRow


def replay_row(task: str, index: int, stored: int, shown: int, first: int | None) -> ReplayRow:
    """Samples that are stored, how often they were shown, and how often of that for the first time."""
    return ReplayRow(
        task=task,
        task_index=index,
        stored_samples=stored,
        presentations=shown,
        replay_updates=1,
        tokens=10,
        bytes=10,
        first_presentations=first,
    )
