"""The log, as the first listener of events. It repeats no line more often than somebody can read it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, assert_never
from weakref import WeakSet

from .._fork import after_in_child
from .._log_throttle import LogThrottle
from .events import (
    CopyDiscarded,
    Event,
    HandedOver,
    LeaseWasLost,
    LimitsDiffer,
    PoolFull,
    RenewalFailed,
    ResultNotKept,
    SlotGranted,
    SlotReleased,
    StandbyKept,
    StoreUnreachable,
    TaskEnded,
    TaskParked,
    TaskPutAside,
    WaitsForItself,
)
from .policies import limit_givers

UNKNOWN: Final = "a pool object or another program"
logger = logging.getLogger("cachify_tasks")


class EventLog:
    """Writes events to the log `cachify_tasks`.

    A full pool and an unreachable store make one line about one subject in ten seconds, with a count of the rest. Two
    limits for one pool, and a result that cannot be kept, make one line in all.

    Args:
        clock: in seconds; tests pass one that they move.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.reset()
        _logs.add(self)

    def reset(self) -> None:
        """Forget what was said."""
        self._throttle = LogThrottle(self._clock)

    def __call__(self, event: Event) -> None:
        throttle = self._throttle
        match event:
            case SlotGranted() | SlotReleased() | HandedOver():
                pass  # the usual course of things
            case PoolFull(pool=pool, label=label, limit=limit, by_default=True):
                throttle.throttled(
                    ("full", pool, label),
                    "pool %r is full (limit %d): a call of %s is not made, and returns None; on_full= says what to do "
                    "instead (on_full=None: just this, without a warning)",
                    pool, limit, label,
                )  # fmt: skip
            case PoolFull(pool=pool, label=label, task_id=task_id, limit=limit, strategy=strategy):
                if label:  # else it is a `with` block, whose error says all
                    self._full(pool, limit, f"{label}[{task_id}]" if task_id else label, f"-> {strategy}")
            case TaskParked(pool=pool, label=label, task_id=task_id, limit=limit):
                self._full(pool, limit, f"{label}[{task_id}]", "is parked")
            case TaskPutAside(pool=pool, holder=holder, why=why, seconds=seconds):
                throttle.throttled(
                    ("aside", pool, why), "the parked task %s of pool %r waits for %g s more: %s",
                    holder, pool, round(seconds, 1), why, level=logging.INFO,
                )  # fmt: skip
            case TaskEnded(pool=pool, task_id=task_id, why=why):
                logger.error("the task %s, parked in pool %r, has ended without a run: %s", task_id, pool, why)
            case LimitsDiffer(pool=pool, previous_limit=previous, limit=limit, label=label, counts=counts):
                if throttle.first(("limit", pool)):
                    logger.warning(
                        "pool %r is given two limits, %d by %s and %d by %s; %d counts",
                        pool, previous, limit_givers(pool, previous) or UNKNOWN,
                        limit, limit_givers(pool, limit, label) or label or UNKNOWN, counts,
                    )  # fmt: skip
            case WaitsForItself(pool=pool, label=label, limit=limit, own=own):
                throttle.once(
                    ("itself", pool, label),
                    "%s still waits for a slot of pool %r, of which its own caller holds %d of %d: perhaps for ever",
                    label or "an acquire", pool, own, limit,
                )  # fmt: skip
            case StoreUnreachable(doing=doing, error=error):
                throttle.throttled(("store", doing), "%s: %s", doing, error)
            case LeaseWasLost(pool=pool, holder=holder, when=when):
                logger.warning("the lease of %r on pool %r was lost %s", holder, pool, when)
            case RenewalFailed(count=count, error=error):
                logger.warning("%d leases could not be renewed: %s", count, error)
            case ResultNotKept(name=name, error=cause):
                throttle.once(("unkept", name), "the result of %s cannot be pickled and is not kept: %s", name, cause)
            case StandbyKept(label=label):
                logger.info("%s is running; a copy of its message is kept aside", label)
            case CopyDiscarded(label=label):
                logger.info("%s has ended already; this copy is dropped", label)
            case _:
                assert_never(event)

    def _full(self, pool: str, limit: int, shown: str, what: str) -> None:
        """One line a pool, at INFO, with a count of the rest; each of the rest at DEBUG."""
        line = "pool %r is full (limit %d): %s %s"
        if not self._throttle.throttled(("full", pool), line, pool, limit, shown, what, level=logging.INFO):
            logger.debug(line, pool, limit, shown, what)


_logs: WeakSet[EventLog] = WeakSet()


def _forget_what_the_parent_said() -> None:
    for log in list(_logs):
        log.reset()


after_in_child(_forget_what_the_parent_said)
