"""Acquires that wait, in the order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeAlias, TypeVar

from .records import Arguments, Record

T = TypeVar("T")
Waiter: TypeAlias = tuple["asyncio.Future[Record[T]]", Arguments, float]

COMPACT_AT: Final = 32  # with fewer futures that are done, the queue is not looked through


class Waiters(Generic[T]):
    """A queue of futures. One that is done without a connection stays in it until its turn, or until there are many.

    Attributes:
        queue: each future with the arguments of its acquire and the moment when the pool's `timeout` ends it; the same
            object for the pool's life.
    """

    __slots__ = ("_done", "queue")

    def __init__(self) -> None:
        self.queue: deque[Waiter[T]] = deque()
        self._done = 0  # how many in the queue are

    @property
    def live(self) -> int:
        """How many wait."""
        return len(self.queue) - self._done

    def first(self) -> Waiter[T] | None:
        """The first one that waits."""
        while self.queue and self.queue[0][0].done():
            self.queue.popleft()
            self.on_passed_over()
        return self.queue[0] if self.queue else None

    def on_passed_over(self) -> None:
        """A future that is done was taken out of the queue."""
        self._done -= 1

    def on_done(self) -> None:
        """A future in the queue is done without a connection."""
        self._done += 1
        if self._done > COMPACT_AT and self._done * 2 > len(self.queue):
            kept = [entry for entry in self.queue if not entry[0].done()]
            self._done -= len(self.queue) - len(kept)
            self.queue.clear()
            self.queue.extend(kept)

    def fail(self, error: Callable[[], Exception]) -> None:
        """Give each of them an error."""
        while self.queue:
            future, _, _ = self.queue.popleft()
            if future.done():
                self.on_passed_over()
            else:
                future.set_exception(error())
