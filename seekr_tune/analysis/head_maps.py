"""Attention heads of one run over its tasks: maps of what was measured, overlap of selections, drift of importance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from seekr_tune.errors import StudyError

HeadValues = NDArray[np.float64]
"""A number of every head after every task, `[tasks, layers, heads]`; nan where it was not measured."""


@dataclass(frozen=True)
class HeadMaps:
    """What one run measured of its heads.

    Attributes:
        trial: its key.
        tasks: tasks after which heads were judged, in learning order.
        sensitivity: share of the layer's task sensitivity, `[tasks, layers, heads]`.
        forgettability: mean squared change of the attention rows while the task was learned, likewise.
        importance: running sum over tasks of sensitivity times forgettability, likewise.
        selected: whether the head is distilled for this task's samples, likewise.
    """

    trial: str
    tasks: tuple[str, ...]
    sensitivity: HeadValues
    forgettability: HeadValues
    importance: HeadValues
    selected: NDArray[np.bool_]


def head_maps(heads: pa.Table, trial: str) -> HeadMaps:
    """The maps of one run.

    Args:
        heads: the ledger's table `heads`, whole or of some runs.
        trial: key of the run.

    Raises:
        StudyError: the run has no heads: its method selects none, or it has not finished a task.
    """
    own = heads.filter(pc.equal(heads["trial"], trial))
    if own.num_rows == 0:
        raise StudyError(f"{trial} has no heads: its method selects none, or no task is finished; name another run")
    column = {name: own[name].to_numpy(zero_copy_only=False) for name in own.column_names}
    indices = np.unique(column["task_index"])
    place = np.searchsorted(indices, column["task_index"]), column["layer"], column["head"]
    shape = len(indices), int(column["layer"].max()) + 1, int(column["head"].max()) + 1
    names = dict(zip(column["task_index"].tolist(), column["task"].tolist(), strict=True))

    def on_map(name: str) -> HeadValues:
        values = np.full(shape, np.nan)
        values[place] = column[name]
        return values

    selected = np.zeros(shape, dtype=bool)
    selected[place] = column["selected"]
    return HeadMaps(
        trial=trial,
        tasks=tuple(names[index] for index in indices.tolist()),
        sensitivity=on_map("sensitivity"),
        forgettability=on_map("forgettability"),
        importance=on_map("importance"),
        selected=selected,
    )


def selection_overlap(selected: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Jaccard index of the heads selected for each two tasks: heads in both / heads in either, `[tasks, tasks]`.

    nan where neither of them has any head.
    """
    flat = selected.reshape(len(selected), -1).astype(np.int64)
    both = flat @ flat.T
    counts = flat.sum(axis=1)
    either = counts[:, None] + counts[None, :] - both
    return np.asarray(np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0))


def importance_drift(importance: HeadValues) -> NDArray[np.float64]:
    """Spearman's rank correlation of the importance of all heads between each task and the next, `[tasks - 1]`.

    1: the same heads in the same order. The importance is a running sum, so the correlation rises with the number of
    tasks even where each task by itself needs other heads; `task_importance` undoes that. nan where all heads are
    equal, or one was not measured.
    """
    flat = importance.reshape(len(importance), -1)
    return np.array([_spearman(one, other) for one, other in zip(flat[:-1], flat[1:], strict=True)])


def task_importance(importance: HeadValues) -> HeadValues:
    """What each task added to the running sum: its own sensitivity times forgettability, `[tasks, layers, heads]`."""
    return np.diff(importance, axis=0, prepend=np.zeros_like(importance[:1]))


def _spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if np.isnan(one).any() or np.isnan(other).any() or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    from scipy.stats import spearmanr  # a second of import, which the ranking need not wait for

    return float(spearmanr(one, other).statistic)
