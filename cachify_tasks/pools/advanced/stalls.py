"""Calls that wait for other calls of their own pool: with all workers so busy, nobody is left to run those."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Final
from weakref import ref

from ..._log_throttle import LogThrottle
from ..errors import PoolError
from .jobs import MapJob, outcome

if TYPE_CHECKING:
    from .jobs import Entry
    from .scheduler import Scheduler

LOOK_S: Final = 5.0  # seconds between two looks at a pool
CALLERS: Final[set[CodeType]] = {outcome.__code__, MapJob.run.__code__}  # of the user's functions

ADVICE: Final = (
    "a call must not wait for another one of its own pool: await that one in the event loop, or use two pools"
)


@contextmanager
def waiting_for(job: Entry, function: object, scheduler: Scheduler) -> Iterator[None]:
    """Around a wait for a job in the queue, which is to call this function.

    Raises:
        PoolError: this worker was the last one that could have run it.
    """
    current = threading.current_thread()
    with scheduler.lock:
        worker = next((worker for worker in scheduler.workers if worker.thread is current), None)
        if worker is not None:
            scheduler.waits[worker] = job
            # One whose job has been taken is about to go on.
            stuck = sum(waited.scheduler is not None for waited in scheduler.waits.values())
            if stuck >= scheduler.limits.most:
                del scheduler.waits[worker]
                raise PoolError(
                    f"the pool {scheduler.name!r} cannot run {_name(function)}: all its {stuck} workers "
                    f"wait for calls of this same pool; {ADVICE}"
                )
    try:
        yield
    finally:
        with scheduler.lock:
            scheduler.waits.pop(worker, None)  # type: ignore[arg-type]  # None is no key


def _name(function: object) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


class StallWatch:
    """Looks at a pool now and then: do all workers wait for futures, while calls are queued and none ends?

    It finds what `waiting_for` cannot see: a worker that waits for a coroutine of the event loop, which waits for the
    pool.
    """

    def __init__(self, scheduler: Scheduler, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduler = ref(scheduler)  # a forgotten pool is collected
        self._loop = loop
        self._done = -1
        self._log = LogThrottle()
        self._timer = loop.call_later(LOOK_S, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        scheduler = self._scheduler()
        if scheduler is None or (scheduler.closed is not None and not scheduler.threads):
            return
        self._timer = self._loop.call_later(LOOK_S, self._look)
        done, _ = scheduler.counts()
        if done == self._done and scheduler.queue.live:
            self._report(scheduler)
        self._done = done

    def _report(self, scheduler: Scheduler) -> None:
        with scheduler.lock:
            threads = [worker.thread.ident for worker in scheduler.workers]
        frames = sys._current_frames()
        waiting = [_waiting_call(frames[thread]) for thread in threads if thread in frames]
        names = [name for name in waiting if name is not None]
        if len(names) < scheduler.limits.most:
            return
        self._log.throttled(
            "stalled",
            "the pool %r stands still: all its %d workers wait for futures, in %s, while %d calls are queued; %s",
            scheduler.name,
            len(names),
            ", ".join(sorted(set(names))),
            scheduler.queue.live,
            ADVICE,
        )


def _waiting_call(frame: FrameType | None) -> str | None:
    """The user's function that waits for a future in this stack of a worker; None: it does not."""
    waits = False
    while frame is not None and frame.f_back is not None:
        waits = waits or frame.f_globals.get("__name__") == "concurrent.futures._base"
        if frame.f_back.f_code in CALLERS:
            return frame.f_code.co_qualname if waits else None
        frame = frame.f_back
    return None
