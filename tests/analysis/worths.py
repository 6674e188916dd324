"""Studies by hand whose scores have errors, floors and ceilings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from synthetic import NAN, TASKS, RecordFactory

from seekr_tune.records import ProspectRow, TrialRecord, score_cells

SAMPLES = 40


def prospects(floor: float = 20.0, **fields: Any) -> tuple[ProspectRow, ...]:
    """Of every task: 300 train rows and 40 scored ones, with one floor for all."""
    given = {"prompts_cut": 0.0, "answers_cut": 0.0, "unknown_tokens": 0.0, "longest_prompt": 48, "longest_answer": 9}
    return tuple(
        ProspectRow(task=task, task_index=index, split=split, rows=rows, **{**given, **own, **fields})  # type: ignore[arg-type]
        for index, task in enumerate(TASKS)
        for split, rows, own in (("train", 300, {}), ("eval", SAMPLES, {"ceiling": 100.0, "floor": floor}))
    )


def record(
    factory: RecordFactory,
    key: str,
    diagonal: Sequence[float],
    *,
    last: Sequence[float] | None = None,
    error: float = 5.0,
    rows: tuple[ProspectRow, ...] | None = None,
    **fields: Any,
) -> TrialRecord:
    """A finished run with these scores just after learning, and at the end; all errors are the same, below 0: none."""
    matrix = np.full((3, 3), NAN)
    if fields.get("method") != "joint":
        np.fill_diagonal(matrix, diagonal)
    matrix[2] = diagonal if last is None else last
    if fields.get("method") != "joint":
        matrix[2, 2] = diagonal[2]
    errors = {"eval": np.full((3, 3, 2), error)}
    cells = score_cells(TASKS, {"eval": matrix}, {}, errors if error >= 0 else None)
    return factory(key, scores=cells, prospects=prospects() if rows is None else rows, **fields)


def study(factory: RecordFactory, seqft: float, joint: float, trial: float, **fields: Any) -> list[TrialRecord]:
    """Two bounds and three trials; scores just after learning are those at the end, but for seqft."""
    own = max(seqft, joint)
    return [
        record(factory, "s", [own, own, seqft], last=[seqft] * 3, method="seqft", role="bound", replay=(), **fields),
        record(factory, "j", [joint] * 3, method="joint", role="bound", replay=(), **fields),
        *(record(factory, f"t{i}", [trial - i] * 3, replay=factory.replay((9 - i, 1, 1)), **fields) for i in range(3)),
    ]
