"""Maps of heads after a task as small grey pictures: a row for each layer, a column for each head; bright is high."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seekr_tune.records import HeadRow

QUANTITIES = ("sensitivity", "forgettability", "importance", "selected")
"""Columns of `HeadRow` that are drawn."""

_PIXELS = 320  # of the longer side, about: PNGs of a few hundred bytes
_SMALLEST_CELL = 4

Picture = NDArray[np.uint8]


def head_images(heads: Sequence[HeadRow], task_index: int) -> Iterator[tuple[str, Picture]]:
    """A picture of each quantity when a task ended; nothing for methods that judge no heads.

    Args:
        heads: of a run, every head of every layer after each task.
        task_index: place of the task.

    Yields:
        The name of the quantity, and grey levels `[height, width]`. White is the highest value of the map (of
        `selected`: a head that is), black is 0; what is not finite is black. A dark line parts the heads.
    """
    rows = [row for row in heads if row.task_index == task_index]
    if not rows:
        return
    layers, columns = np.array([row.layer for row in rows]), np.array([row.head for row in rows])
    for quantity in QUANTITIES:
        values = np.zeros((layers.max() + 1, columns.max() + 1))
        values[layers, columns] = [getattr(row, quantity) for row in rows]
        yield quantity, _picture(values)


def _picture(values: NDArray[Any]) -> Picture:
    known = np.where(np.isfinite(values), values, 0.0)
    grey = np.rint(255 * known / (known.max() or 1.0)).astype(np.uint8)
    cell = max(_SMALLEST_CELL, _PIXELS // max(values.shape))
    picture = np.kron(grey, np.ones((cell, cell), np.uint8))
    picture[::cell], picture[:, ::cell] = 0, 0
    return picture
