"""Acquires that wait, in the order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from .records import Recipe, Record

T = TypeVar("T")

FEW = 32  # so many left ones are no reason to look through the line


class Waiters(Generic[T]):
    """A line of futures. Who leaves it stays in it as a future that is done, until its turn or until such are many."""

    __slots__ = ("_gone", "line")

    def __init__(self) -> None:
        self.line: deque[tuple[asyncio.Future[Record[T]], Recipe]] = deque()  # the same object always
        self._gone = 0  # how many in the line are done

    @property
    def live(self) -> int:
        return len(self.line) - self._gone

    def passed(self) -> None:
        """One who is done has been taken out of the line."""
        self._gone -= 1

    def left(self) -> None:
        """One who stood in the line is done without a connection."""
        self._gone += 1
        if self._gone > FEW and self._gone * 2 > len(self.line):
            kept = [entry for entry in self.line if not entry[0].done()]
            self._gone -= len(self.line) - len(kept)
            self.line.clear()
            self.line.extend(kept)

    def fail(self, error: Callable[[], Exception]) -> None:
        """Each of them gets an error."""
        while self.line:
            future, _ = self.line.popleft()
            if future.done():
                self.passed()
            else:
                future.set_exception(error())
