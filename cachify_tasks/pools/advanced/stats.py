"""What a pool reports about itself."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class AdvancedPoolStats:
    """One moment of a pool. Every figure but the limits and `uptime` is a count.

    Attributes:
        workers: threads; busy: those that run something.
        min_workers, max_workers: as given, or as resized.
        limit: the most calls in the queue; None: no limit.
        queued: calls in the queue, a map being one; waiting: tasks that wait for a free slot in it.
        completed: calls that have returned or raised; failed: those that raised.
        cancelled: calls that left the queue and were not run: by a cancellation, a timeout or a shutdown.
        uptime: seconds from the start until now, or until the end.
    """

    workers: int
    busy: int
    min_workers: int
    max_workers: int
    limit: int | None
    queued: int
    waiting: int
    completed: int
    failed: int
    cancelled: int
    uptime: float


class Statistics:
    """The properties of `AdvancedPool`. They are true for the moment, and may be read from any thread."""

    _scheduler: Scheduler
    _began: float
    _ended: float

    def stats(self) -> AdvancedPoolStats:
        """All figures of this moment."""
        scheduler = self._scheduler
        completed, failed = scheduler.counts()
        return AdvancedPoolStats(
            workers=len(scheduler.workers),
            busy=len(scheduler.running()),
            min_workers=scheduler.limits.least,
            max_workers=scheduler.limits.most,
            limit=scheduler.capacity,
            queued=scheduler.queue.live,
            waiting=len(scheduler.line),
            completed=completed,
            failed=failed,
            cancelled=scheduler.cancelled,
            uptime=self.uptime,
        )

    @property
    def completed(self) -> int:
        """Calls that have returned or raised, each item of a map being one."""
        return self._scheduler.counts()[0]

    @property
    def empty(self) -> bool:
        """Does no call wait in the queue?"""
        return not self._scheduler.queue.live

    @property
    def full(self) -> bool:
        """Is there no free slot in the queue? Then `submit` and `wait_for_slot` wait."""
        return self._scheduler.capacity is not None and self._scheduler.queue.live >= self._scheduler.capacity

    @property
    def idle(self) -> bool:
        """Does no call wait, and none run?"""
        return not self._scheduler.queue.live and not self._scheduler.running()

    @property
    def qsize(self) -> int:
        """Calls that wait in the queue. A map is one, until its last item has begun."""
        return self._scheduler.queue.live

    @property
    def uptime(self) -> float:
        """Seconds since the start; after a shutdown, until then."""
        return (self._ended or time.monotonic()) - self._began if self._began else 0.0
