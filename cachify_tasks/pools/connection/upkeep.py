"""Maintenance: what is done now and then, whoever acquires or not."""

from __future__ import annotations

import asyncio
import sys
import traceback
from types import FrameType
from typing import TypeVar

from .records import Loan, Record
from .stock import Stock, logger

T = TypeVar("T")

SHORTEST = 0.01  # seconds between two rounds


class Upkeep(Stock[T]):
    async def _maintain(self) -> None:
        """Rounds, until the pool is stopped."""
        while self._open:
            limits = [self._options.interval]
            limits += [
                limit / 4
                for limit in (self._options.max_idle, self._options.keepalive, self._options.leak_after)
                if limit is not None
            ]
            await asyncio.sleep(max(min(limits), SHORTEST))
            await self._round()

    async def _round(self) -> None:
        now = self._now()
        for record in self._records.values():
            if record.lends != record.seen:
                record.seen, record.used_at = record.lends, now
        self._shrink(now)
        self._report(now)
        for record in [record for record in self._idle if self._is_due(record)]:
            if record in self._idle and self._open:  # nobody has taken it in the meantime
                self._idle.remove(record)
                await asyncio.wait([self._check(record)])
        self._serve()

    def _shrink(self, now: float) -> None:
        """Retire what has not been used for long, as far as minsize allows."""
        if self._options.max_idle is None:
            return
        for record in [record for record in self._idle if now - record.used_at >= self._options.max_idle]:
            if self._places - self._cleaning <= self._minsize:
                return
            if record in self._idle:
                self._idle.remove(record)
                self._retire(record)

    def _is_due(self, record: Record[T]) -> bool:
        if self._options.healthchecker is None or self._options.keepalive is None:
            return False
        return self._now() - max(record.checked_at, record.used_at) >= self._options.keepalive

    def _report(self, now: float) -> None:
        """Tell of each connection once that it has been lent for too long."""
        for record in [*self._lent.values(), *self._doomed.values()]:
            if (
                not record.reported
                and record.stack is not None
                and now - record.lent_at >= (self._options.leak_after or 0)
            ):
                record.reported = True
                text = "".join(record.stack.format()).rstrip()
                seconds = round(now - record.lent_at, 1)
                logger.warning("a connection has been lent for %s s; it was acquired here:\n%s", seconds, text)

    def _remember(self, record: Record[T]) -> None:
        """Who acquires it, for the report."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_globals.get("__package__") == __package__:
            frame = frame.f_back
        record.stack = traceback.StackSummary.extract(_outwards(frame), lookup_lines=False)
        record.stack.reverse()
        record.lent_at, record.reported = self._now(), False

    def leaks(self) -> list[Loan[T]]:
        """Connections that have been lent for longer than `leak_after`, the longest first; none without that option."""
        if self._options.leak_after is None:
            return []
        now = self._now()
        lent = [record for record in (*self._lent.values(), *self._doomed.values()) if record.stack is not None]
        loans = [Loan(record.conn, now - record.lent_at, record.stack) for record in lent if record.stack is not None]
        return sorted(
            (loan for loan in loans if loan.seconds >= self._options.leak_after),
            key=lambda loan: loan.seconds,
            reverse=True,
        )


def _outwards(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    """The frames of the caller's own code: the event loop's say nothing."""
    frames = []
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("asyncio."):
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return frames
