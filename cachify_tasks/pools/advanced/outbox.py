"""From the workers to the event loop: one wake-up for all that has ended until the loop comes to look."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .jobs import Awaited

TURN = 2_000  # futures settled before other callbacks of the loop have their turn


class Outbox:
    """
    Args:
        look: called on the loop after each batch.
        orphaned: called, by whoever finds it out, when the loop has been closed.
    """

    __slots__ = ("_called", "_look", "_loop", "_orphaned", "ready")

    def __init__(self, loop: asyncio.AbstractEventLoop, look: Callable[[], None], orphaned: Callable[[], None]) -> None:
        self._loop, self._look, self._orphaned = loop, look, orphaned
        self._called = False
        self.ready: deque[tuple[Awaited[Any], Any, BaseException | None]] = deque()

    def put(self, future: Awaited[Any], value: Any, error: BaseException | None) -> None:
        """Settle the future on the loop; from any thread, without the crew's lock."""
        self.ready.append((future, value, error))
        if not self._called:
            self.ring()

    def ring(self) -> None:
        if self._called:
            return
        self._called = True
        try:
            self._loop.call_soon_threadsafe(self._turn)
        except RuntimeError:  # the loop is closed
            self._orphaned()

    def _turn(self) -> None:
        self._called = False  # first: what is put from now on rings again, and is not missed
        ready = self.ready
        try:
            for _ in range(min(len(ready), TURN)):
                future, value, error = ready.popleft()
                future.settle(value, error)
        finally:
            if ready and not self._called:
                self._called = True
                self._loop.call_soon(self._turn)
        self._look()

    def empty(self) -> None:
        """Settle all that is left, with nobody to be told: the loop is closed."""
        while self.ready:
            with contextlib.suppress(IndexError, RuntimeError):
                future, value, error = self.ready.popleft()
                future.settle(value, error)
