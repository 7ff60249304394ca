"""What happens to acquires that wait for long."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from .records import Record
from .waiters import Waiters

T = TypeVar("T")

STALLED_S: Final = 10.0  # how long the first one waits until that is logged


class Patience(Generic[T]):
    """One timer for all that wait: they come with the same timeout, so they end in the order in which they came.

    Args:
        on_timeout: gets each future whose time is over.
        on_stall: called when nobody was served for `STALLED_S`, and again after each time as long.

    Attributes:
        at: when it looks at the queue again, on the loop's clock; infinite while nobody waits.
    """

    __slots__ = ("_first", "_on_stall", "_on_timeout", "_since", "_timer", "_waiters", "at")

    def __init__(
        self,
        waiters: Waiters[T],
        on_timeout: Callable[[asyncio.Future[Record[T]]], None],
        on_stall: Callable[[], None],
    ) -> None:
        self._waiters = waiters
        self._on_timeout = on_timeout
        self._on_stall = on_stall
        self._first: asyncio.Future[Record[T]] | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.at = math.inf

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the queue: end those whose time is over, and come back in time for the next one."""
        now = loop.time()
        while (first := self._waiters.first()) is not None and self._end_overdue(now):
            pass
        if first is None:
            self.stop()
            return
        if self._timer is not None:
            self._timer.cancel()
        if first[0] is not self._first:
            self._first, self._since = first[0], now
        elif now - self._since >= STALLED_S:
            self._since = now
            self._on_stall()
        self.at = min(self._since + STALLED_S, self._next_end())
        self._timer = loop.call_at(self.at, self.watch, loop)

    def _end_overdue(self, now: float) -> bool:
        """End the first one with the pool's timeout, if its time is over."""
        for future, _, ends in self._waiters.queue:
            if ends < math.inf and not future.done():
                if ends <= now:
                    self._on_timeout(future)
                return ends <= now
        return False

    def _next_end(self) -> float:
        ends = (ends for future, _, ends in self._waiters.queue if ends < math.inf and not future.done())
        return next(ends, math.inf)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._first = None
        self.at = math.inf
