"""Work that is begun one item ahead of the loop that needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def one_ahead(items: Iterable[T], begin: Callable[[T], U]) -> Iterator[tuple[T, U]]:
    """Each item with what `begin` returned for it; the next item is begun before the present one is handed out."""
    waiting: tuple[T, U] | None = None
    for item in items:
        begun = (item, begin(item))
        if waiting is not None:
            yield waiting
        waiting = begun
    if waiting is not None:
        yield waiting
