"""Work that is begun before the loop comes to the item that needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Ahead(Generic[T, U]):
    """Iterates over items, each with what `begin` returned for it.

    Args:
        items: in the order in which they are begun.
        begin: starts the work for one item.
    """

    def __init__(self, items: Iterable[T], begin: Callable[[T], U]) -> None:
        self._items = iter(items)
        self._begin = begin
        self._begun: tuple[T, U] | None = None

    def begin_next(self) -> None:
        """Begin with the item behind the present one, if there is one and it has not been begun."""
        if self._begun is None:
            for item in self._items:
                self._begun = (item, self._begin(item))
                break

    def __iter__(self) -> Iterator[tuple[T, U]]:
        while True:
            self.begin_next()
            if self._begun is None:
                return
            present, self._begun = self._begun, None
            yield present
