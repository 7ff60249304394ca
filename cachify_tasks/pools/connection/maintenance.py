"""Maintenance: what is done from time to time, whether somebody acquires or not."""

from __future__ import annotations

import asyncio
import sys
import traceback
from types import FrameType
from typing import Final, Generic, TypeVar

from .connections import Connections
from .pool_tasks import logger
from .records import Loan, Record
from .timed_call import SLOW_S

T = TypeVar("T")

SHORTEST: Final = 0.01  # seconds between two rounds


class Maintenance(Generic[T]):
    """Retires what is idle for long, checks what is idle, reports what is lent for long. Runs in the pool's loop."""

    def __init__(self, connections: Connections[T]) -> None:
        self._connections = connections
        self._options = connections.options

    async def run(self) -> None:
        """Rounds, until the pool is stopped."""
        while self._connections.is_open:
            limits = [self._options.interval]
            limits += [
                limit / 4
                for limit in (self._options.max_idle, self._options.keepalive, self._options.leak_after)
                if limit is not None
            ]
            await asyncio.sleep(max(min(limits), SHORTEST))
            await self.round()

    async def round(self) -> None:
        connections = self._connections
        now = connections.now()
        for record in connections.records.values():
            if record.lends != record.seen:
                record.seen, record.used_at = record.lends, now
        self._shrink(now)
        self._report(now)
        for record in [record for record in connections.idle if self._is_due(record)]:
            if record in connections.idle and connections.is_open:  # nobody has taken it in the meantime
                connections.idle.remove(record)
                await asyncio.wait([connections.check(record)], timeout=SLOW_S)  # one that is slow holds up no other
        connections.serve()

    def _shrink(self, now: float) -> None:
        """Retire what has not been used for long, as far as minsize allows."""
        connections = self._connections
        if self._options.max_idle is None:
            return
        for record in [record for record in connections.idle if now - record.used_at >= self._options.max_idle]:
            if connections.total - connections.cleaning <= connections.minsize:
                return
            if record in connections.idle:
                connections.idle.remove(record)
                connections.retire(record)

    def _is_due(self, record: Record[T]) -> bool:
        if self._options.healthchecker is None or self._options.keepalive is None:
            return False
        return self._connections.now() - max(record.checked_at, record.used_at) >= self._options.keepalive

    def _in_use(self) -> list[Record[T]]:
        return [*self._connections.lent.values(), *self._connections.retiring.values()]

    def _report(self, now: float) -> None:
        """Log each connection once that has been lent for too long."""
        for record in self._in_use():
            if (
                not record.reported
                and record.stack is not None
                and now - record.lent_at >= (self._options.leak_after or 0)
            ):
                record.reported = True
                text = "".join(record.stack.format()).rstrip()
                seconds = round(now - record.lent_at, 1)
                logger.warning("a connection has been lent for %s s; it was acquired here:\n%s", seconds, text)

    def remember_borrower(self, record: Record[T]) -> None:
        """Keep the stack of the acquire, for the report."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_globals.get("__package__") == __package__:
            frame = frame.f_back
        record.stack = traceback.StackSummary.extract(_outwards(frame), lookup_lines=False)
        record.stack.reverse()
        record.lent_at, record.reported = self._connections.now(), False

    def leaks(self) -> list[Loan[T]]:
        """The loans that are older than `leak_after`, the oldest first."""
        if self._options.leak_after is None:
            return []
        now = self._connections.now()
        loans = [Loan(each.conn, now - each.lent_at, each.stack) for each in self._in_use() if each.stack is not None]
        old = [loan for loan in loans if loan.seconds >= self._options.leak_after]
        return sorted(old, key=lambda loan: loan.seconds, reverse=True)


def _outwards(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    """The frames of the caller's own code: the event loop's say nothing."""
    frames = []
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("asyncio."):
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return frames
