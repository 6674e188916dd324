from __future__ import annotations

from seekr_tune.sequence.ahead import one_ahead


def test_each_item_is_begun_when_the_one_before_is_handed_out() -> None:
    events: list[str] = []

    def begin(item: int) -> int:
        events.append(f"begin {item}")
        return item * item

    for item, begun in one_ahead(range(3), begin):
        assert begun == item * item
        events.append(f"use {item}")
    assert events == ["begin 0", "begin 1", "use 0", "begin 2", "use 1", "use 2"]


def test_nothing_is_begun_where_there_is_nothing() -> None:
    assert list(one_ahead((), lambda item: item)) == []
