"""A generator whose steps have a slot as the current one, and that belongs to who steps it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .slot import Slot, current


class Steps:
    """A generator (or an awaitable's) with its slot as the current one in each of its steps, not in its consumer's."""

    __slots__ = ("_items", "_slot")

    def __init__(self, items: Any, slot: Slot | None) -> None:
        self._items, self._slot = items, slot

    def __iter__(self) -> Steps:
        return self

    __await__ = __iter__

    def __next__(self) -> Any:
        return self._step(self._items.__next__)

    def send(self, value: Any) -> Any:
        return self._step(self._items.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._items.throw, *error)

    def close(self) -> None:
        self._step(self._items.close)

    def _step(self, do: Callable[..., Any], *args: Any) -> Any:
        before = current.get()
        try:
            current.set(self._slot)
            return do(*args)
        finally:
            current.set(before)


def unhooked(begin: Callable[[], Any]) -> Any:
    """What an asynchronous generator's first step is, kept from the event loop.

    A loop that ends closes all the generators it knows of at once: it would close this one under its owner's hands, who
    closes it, and then frees the slot.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return begin()
    finally:
        sys.set_asyncgen_hooks(*hooks)
