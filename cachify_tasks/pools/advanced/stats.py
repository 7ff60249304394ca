"""What a pool tells about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdvancedPoolStats:
    """One moment of a pool. Every figure but the limits and `uptime` is a count.

    Attributes:
        workers: threads; busy: those that run something.
        min_workers, max_workers, limit: as given, or as resized; limit is that of the queue, None: there is none.
        queued: calls in the queue, a map being one; waiting: tasks that wait for a place in it.
        completed: calls that have returned or raised; failed: those that raised.
        cancelled: calls that left the queue unrun, by a cancellation, a timeout or a shutdown.
        uptime: seconds from the start to now, or to the end.
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
