"""Continual-learning metrics: pure functions of a score matrix.

Throughout, `scores` is `[tasks, tasks]`, in percent: `scores[i, j]` is task j's score after training on tasks 0..i, and
NaN where that was not evaluated. `initial` is `[tasks]`: the scores of the untrained base model. A metric is None
where the matrix lacks a cell that its formula needs. With T tasks, a = scores, indices from 1 as in the papers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


def overall_performance(scores: Scores) -> float | None:
    """OP = (1/T) sum_j a[T, j]: the mean score of all tasks after the last one.

    Source: SEEKR, eq. (14).
    """
    return _mean(scores[-1])


def backward_transfer(scores: Scores) -> float | None:
    """BWT = (1/(T-1)) sum_{j<T} (a[T, j] - a[j, j]): what later tasks did to earlier ones; negative is forgetting.

    None for a single task. Source: SEEKR, eq. (15); Lopez-Paz & Ranzato 2017 (GEM).
    """
    return _mean((scores[-1] - np.diagonal(scores))[:-1])


def backward_transfer_official(scores: Scores) -> float | None:
    """BWT as the authors' release prints it: (1/T) sum_{j<=T} (a[T, j] - a[j, j]).

    The last term is 0, so this is (T-1)/T of `backward_transfer`. Source: official `show_results.py`.
    """
    return _mean(scores[-1] - np.diagonal(scores))


def forward_transfer(scores: Scores, initial: Scores) -> float | None:
    """FWT = (1/(T-1)) sum_{j>=2} (a[j-1, j] - initial[j]): what earlier tasks did for a task before it was learned.

    None for a single task. Source: Lopez-Paz & Ranzato 2017 (GEM).
    """
    return _mean(np.diagonal(scores, offset=1) - initial[1:])


def forgetting(scores: Scores) -> float | None:
    """F = (1/(T-1)) sum_{j<T} (max_{i<T} a[i, j] - a[T, j]): the drop from each task's best score before the last task.

    The maximum runs over i = j..T-1, from the moment the task was learned. It needs every one of these cells; None
    for a single task. Source: Chaudhry et al. 2018, whose maximum also runs over i < j, before the task was learned.
    """
    num_tasks = len(scores)
    best = [scores[task : num_tasks - 1, task].max() for task in range(num_tasks - 1)]  # NaN where a cell is missing
    return _mean(np.asarray(best, dtype=np.float64) - scores[-1, :-1])


def normalised_gain(op: float | None, op_seqft: float | None, op_joint: float | None) -> float | None:
    """g = (OP - OP_seqft) / (OP_joint - OP_seqft): the share of the gap between no replay and joint training closed.

    A fraction: 0 at the lower bound, 1 at the upper one, outside [0, 1] beyond them. None where a value is missing or
    the bounds leave no gap (joint training is not better than no replay), which makes the share meaningless.
    """
    if op is None or op_seqft is None or op_joint is None or op_joint <= op_seqft:
        return None
    return (op - op_seqft) / (op_joint - op_seqft)


def _mean(values: Scores) -> float | None:
    if values.size == 0 or np.isnan(values).any():
        return None
    return float(values.mean())
