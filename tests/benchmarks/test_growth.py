from __future__ import annotations

import pytest

from benchmarks.growth import GROWING, HEADS, Size, cost_at, curves_of


def test_heads_are_spread_over_the_layers() -> None:
    assert Size(layers=2, heads=3).selected == {0: (0, 1), 1: (0,)}
    assert Size(layers=4, heads=2).selected == {0: (0,), 1: (0,)}


def test_no_size_selects_more_heads_than_there_are() -> None:
    for sizes in GROWING.values():
        for size in sizes:
            assert sum(map(len, size.selected.values())) == size.heads <= size.layers * HEADS


def test_what_is_stored_grows_with_the_heads() -> None:
    sizes = [Size(length=64, heads=heads, layers=1, vocabulary=64) for heads in (1, 2, 3)]
    costs = [cost_at(size, repeats=1) for size in sizes]
    one, two, three = (cost.kilobytes for cost in costs)
    assert two - one == pytest.approx(three - two) and one < two
    assert all(cost.time > 0 and cost.memory > 1 for cost in costs)
    assert costs[2].memory > costs[0].memory
    stored = list(curves_of(sizes, "distilled heads", costs))[-1]
    assert stored.points == ((1.0, one), (2.0, two), (3.0, three))
