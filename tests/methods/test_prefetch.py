from __future__ import annotations

from seekr_tune.methods.prefetch import Ahead

events: list[str] = []


def begin(item: int) -> int:
    events.append(f"begin {item}")
    return item * item


def test_the_next_item_is_begun_when_the_loop_says_so_and_once() -> None:
    events.clear()
    ahead = Ahead(range(3), begin)
    for item, begun in ahead:
        assert begun == item * item
        events.append(f"use {item}")
        ahead.begin_next()
        ahead.begin_next()
        events.append(f"used {item}")
    order = ["begin 0", "use 0", "begin 1", "used 0", "use 1", "begin 2", "used 1", "use 2", "used 2"]
    assert events == order


def test_a_loop_that_says_nothing_finds_each_item_begun_all_the_same() -> None:
    events.clear()
    assert list(Ahead(range(2), begin)) == [(0, 0), (1, 1)] and events == ["begin 0", "begin 1"]
    assert list(Ahead((), begin)) == []
