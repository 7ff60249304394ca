"""A generator whose slot is the current one in its own steps, not in those of the code that iterates over it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from .slot import Slot, current

T = TypeVar("T")
Y = TypeVar("Y")
N = TypeVar("N")
R = TypeVar("R")


class Steps(Generator[Y, N, R]):
    """A generator (or that of an awaitable) whose every step has the slot as the current one."""

    __slots__ = ("_items", "_slot")

    def __init__(self, items: Generator[Y, N, R], slot: Slot | None) -> None:
        self._items = items
        self._slot = slot

    def __await__(self) -> Generator[Y, N, R]:
        return self

    def __next__(self) -> Y:
        return self._step(self._items.__next__)

    def send(self, value: N, /) -> Y:
        return self._step(self._items.send, value)

    def throw(self, *error: Any) -> Y:
        return self._step(self._items.throw, *error)

    def close(self) -> None:
        self._step(self._items.close)

    def _step(self, do: Callable[..., T], *args: object) -> T:
        before = current.get()
        try:
            current.set(self._slot)
            return do(*args)
        finally:
            current.set(before)


def unhooked(begin: Callable[[], T]) -> T:
    """Take an asynchronous generator's first step without the event loop learning of the generator.

    A loop that ends closes all the generators that it knows at once. It would close this one while the wrapper closes
    it, too, in order to free the slot afterwards.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return begin()
    finally:
        sys.set_asyncgen_hooks(*hooks)
