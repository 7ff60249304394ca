"""From the workers to the event loop: one wake-up for all calls that end until the loop delivers their outcomes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .jobs import PoolFuture

MAX_PER_ITERATION = 2_000  # futures settled before other callbacks of the event loop have their turn


class Completions:
    """Outcomes on their way to the event loop. Workers append them, the event loop takes them out.

    Args:
        on_loop_closed: called by the thread that finds out that the event loop was closed.

    Attributes:
        ready: outcomes to deliver.
        watched: does a task wait for a condition? Then workers notify the loop of every change.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_loop_closed: Callable[[], None]) -> None:
        self._loop = loop
        self._on_loop_closed = on_loop_closed
        self._scheduled = False
        self._watchers: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self.ready: deque[tuple[PoolFuture[Any], Any, BaseException | None]] = deque()
        self.watched = False

    def put(self, future: PoolFuture[Any], value: Any, error: BaseException | None) -> None:
        """Have the event loop settle the future. From any thread, without the scheduler's lock."""
        self.ready.append((future, value, error))
        self.notify()

    def notify(self) -> None:
        """Wake the event loop, unless a wake-up is on its way."""
        if self._scheduled:
            return
        self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop is closed
            self._on_loop_closed()

    def _deliver(self) -> None:
        self._scheduled = False  # first: an outcome that is put from now on wakes the loop again
        ready = self.ready
        try:
            for _ in range(min(len(ready), MAX_PER_ITERATION)):
                future, value, error = ready.popleft()
                future.settle(value, error)
        finally:
            if ready and not self._scheduled:
                self._scheduled = True
                self._loop.call_soon(self._deliver)
        for watcher, condition in list(self._watchers.items()):
            if not watcher.done() and condition():
                watcher.set_result(None)

    def flush(self) -> None:
        """Settle all futures now: in the event loop, or in any thread if the loop is closed."""
        while self.ready:
            with contextlib.suppress(IndexError, RuntimeError):  # another thread was faster; the loop is closed
                future, value, error = self.ready.popleft()
                future.settle(value, error)

    async def wait_until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until the workers have made the condition true. False: they have not in that time."""
        watcher = self._loop.create_future()
        self._watchers[watcher] = condition
        self.watched = True  # before the first check: a change after it is notified
        try:
            if condition():
                return True
            async with asyncio.timeout(seconds):
                await watcher
        except TimeoutError:
            return False
        finally:
            del self._watchers[watcher]
            self.watched = bool(self._watchers)
        return True
