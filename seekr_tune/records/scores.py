"""Score matrices of a run, and the cells that they are kept as."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from seekr_tune.records.rows import ScoreCell, ScoredSplit
from seekr_tune.records.trial import TrialRecord

Scores = NDArray[np.float64]


def score_matrix(record: TrialRecord, split: ScoredSplit) -> Scores:
    """Scores in percent, `[T, T]`: row = after training that task, column = evaluated task, nan = not evaluated."""
    return score_arrays_of(record, split)[0]


def initial_scores(record: TrialRecord, split: ScoredSplit) -> Scores:
    """Scores before any training in percent, `[T]`; nan = not evaluated."""
    return score_arrays_of(record, split)[1]


def score_arrays(cells: Iterable[tuple[int, int, float]], num_tasks: int) -> tuple[Scores, Scores]:
    """Score matrix, `[T, T]`, and scores before any training, `[T]`, in percent; nan = not evaluated.

    Args:
        cells: index of the task learned last (-1: none), index of the evaluated one, score.
        num_tasks: T.
    """
    arrays = np.full((num_tasks + 1, num_tasks), np.nan)  # the last row, which index -1 means, is before any training
    for trained, evaluated, score in cells:
        arrays[trained, evaluated] = score
    return arrays[:-1], arrays[-1]


def score_arrays_of(record: TrialRecord, split: ScoredSplit) -> tuple[Scores, Scores]:
    """`score_matrix` and `initial_scores`."""
    cells = [(cell.trained_index, cell.evaluated_index, cell.score) for cell in record.scores if cell.split == split]
    return score_arrays(cells, len(record.tasks))


def tuning_split(record: TrialRecord) -> ScoredSplit | None:
    """The split that trials are compared on: `eval` if it was scored, else `test`; None without any score."""
    scored = {cell.split for cell in record.scores}
    if "eval" in scored:
        return "eval"
    return "test" if scored else None


def score_cells(
    tasks: Sequence[str],
    scores: Mapping[str, Scores],
    initial: Mapping[str, Scores],
    errors: Mapping[str, Scores] | None = None,
) -> tuple[ScoreCell, ...]:
    """The cells of score matrices; the inverse of `score_matrix` and `initial_scores`.

    Args:
        tasks: T task names in learning order.
        scores: by split, `[T, T]` in percent, nan where nothing was evaluated.
        initial: by split, `[T]` in percent before any training, nan where nothing was evaluated.
        errors: by split, `[T, T, 2]` in points: `error` and `margin_error`, nan where they are not known.
    """
    cells: list[ScoreCell] = []
    for split in sorted({*scores, *initial}):
        if split in initial:
            cells.extend(_row_cells(tasks, split, -1, initial[split]))
        for index, row in enumerate(scores.get(split, ())):
            known = errors[split][index] if errors and split in errors else None
            cells.extend(_row_cells(tasks, split, index, row, known))
    return tuple(cells)


def _row_cells(
    tasks: Sequence[str], split: str, trained: int, row: Scores, errors: Scores | None = None
) -> Iterator[ScoreCell]:
    for evaluated, score in enumerate(row):
        if not np.isnan(score):
            error, margin = (None, None) if errors is None else (_known(value) for value in errors[evaluated])
            cell = {
                "trained": tasks[trained] if trained >= 0 else "",
                "evaluated": tasks[evaluated],
                "trained_index": trained,
                "evaluated_index": evaluated,
                "split": split,
                "score": float(score),
                "error": error,
                "margin_error": margin,
            }
            yield ScoreCell.model_validate(cell)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
