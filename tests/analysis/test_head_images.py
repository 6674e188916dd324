"""Pictures of head maps, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import RecordFactory

from seekr_tune.analysis.head_images import QUANTITIES, head_images
from seekr_tune.records import HeadRow


def rows(values: list[list[float]], task_index: int = 0) -> list[HeadRow]:
    """Heads whose sensitivity is given; the others are 0, and the last head is selected."""
    return [
        HeadRow(
            task="a",
            task_index=task_index,
            layer=layer,
            head=head,
            sensitivity=value,
            forgettability=0.0,
            importance=value * value,
            selected=(layer, head) == (1, 2),
        )
        for layer, row in enumerate(values)
        for head, value in enumerate(row)
    ]


def cells(picture: np.ndarray, shape: tuple[int, int]) -> list[list[int]]:
    """The grey in the middle of each cell."""
    height, width = picture.shape[0] // shape[0], picture.shape[1] // shape[1]
    return [
        [int(picture[height * r + height // 2, width * c + width // 2]) for c in range(shape[1])]
        for r in range(shape[0])
    ]


def test_a_row_is_a_layer_and_bright_is_high() -> None:
    pictures = dict(head_images(rows([[0.0, 1.0, 2.0], [4.0, 3.0, 1.0]]), 0))
    assert list(pictures) == list(QUANTITIES)
    assert cells(pictures["sensitivity"], (2, 3)) == [[0, 64, 128], [255, 191, 64]]
    assert cells(pictures["importance"], (2, 3)) == [[0, 16, 64], [255, 143, 16]]
    assert cells(pictures["selected"], (2, 3)) == [[0, 0, 0], [0, 0, 255]]
    assert not pictures["forgettability"].any()
    assert all(picture.dtype == np.uint8 and picture.shape == (212, 318) for picture in pictures.values())


def test_only_the_heads_of_the_task_are_drawn() -> None:
    both = [*rows([[1.0, 0.0]]), *rows([[0.0, 1.0]], task_index=1)]
    assert cells(dict(head_images(both, 1))["sensitivity"], (1, 2)) == [[0, 255]]
    assert not list(head_images(both, 2))


@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
def test_a_diverged_run_has_dark_heads(strange: float) -> None:
    assert cells(dict(head_images(rows([[strange, 1.0]]), 0))["sensitivity"], (1, 2)) == [[0, 255]]


def test_large_models_have_small_cells_that_stay_apart(make_record: RecordFactory) -> None:
    picture = dict(head_images(make_record.heads(100, 100), 0))["sensitivity"]
    assert picture.shape == (400, 400) and set(picture[1]) == {0, 255} and not picture[0].any()
