"""How a crew ends: in good order, in time, without its loop, in a forked child. No future is left pending."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from weakref import WeakSet

from ..errors import PoolError, PoolShutDown
from .crew import Crew
from .jobs import Dropped, Entry
from .outbox import Outbox
from .terms import Refusal

ALMOST_OVER = 1.0  # seconds for a thread that has nothing more to do
SHUT_DOWN = Refusal(PoolShutDown, "the pool is shutting down or has been shut down")
NO_LOOP = Refusal(PoolShutDown, "the pool's event loop was closed")
FORKED = Refusal(PoolError, "the pool belongs to the process that this one was forked from: make another one here")

_crews: WeakSet[Crew] = WeakSet()


class Ending:
    """Used on the loop alone, but for `orphaned` and `discard`."""

    def __init__(self, crew: Crew, loop: asyncio.AbstractEventLoop) -> None:
        self.crew, self.loop = crew, loop
        self._watchers: dict[asyncio.Future[None], Callable[[], bool]] = {}
        crew.outbox = Outbox(loop, self._look, self.orphaned)
        _crews.add(crew)

    def _look(self) -> None:
        for watcher, condition in list(self._watchers.items()):
            if not watcher.done() and condition():
                watcher.set_result(None)

    async def until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait for the crew to be so. False: it was not in time."""
        watcher = self.loop.create_future()
        self._watchers[watcher] = condition
        self.crew.watched = True  # before the look: from now on, who changes something rings
        try:
            if condition():
                return True
            async with asyncio.timeout(seconds):
                await watcher
        except TimeoutError:
            return False
        finally:
            del self._watchers[watcher]
            self.crew.watched = bool(self._watchers)
        return True

    def over(self) -> bool:
        """Have all workers ended, and is all told?"""
        return self.crew.refusal is not None and not self.crew.threads and not self.crew.outbox.ready

    async def shut_down(self, cancel_pending: bool, idle_timeout: float | None, total_timeout: float | None) -> None:
        until = None if total_timeout is None else self.loop.time() + total_timeout
        self.crew.close(SHUT_DOWN)
        if cancel_pending:
            self.drop_queued()
        if not await self.until(self.crew.calm, _shorter(idle_timeout, total_timeout)):
            self.drop_queued()
        if await self.until(self.over, None if until is None else max(0.0, until - self.loop.time())):
            self.bury()
        else:
            self.drop_all()

    def bury(self) -> None:
        with self.crew.lock:
            threads = [*self.crew.leaving, *(worker.thread for worker in self.crew.threads if worker.job is None)]
        for thread in threads:
            thread.join(ALMOST_OVER)

    def drop_queued(self) -> None:
        with self.crew.lock:
            jobs = self.crew.lanes.clear()
            self.crew.cancelled += len(jobs)
        _drop(jobs)
        self.crew.outbox.ring()

    def drop_all(self) -> None:
        """Wait no longer. A call that runs cannot be stopped: its thread ends with it, and nobody hears of it."""
        self.crew.close(SHUT_DOWN)
        self.drop_queued()
        _drop(self.crew.running())

    def orphaned(self) -> None:
        """The loop was closed and the pool was not: by whoever notices it. Workers end."""
        crew = self.crew
        crew.close(NO_LOOP)
        with crew.lock:
            jobs = crew.lanes.clear()
        _drop([*jobs, *crew.running()])
        crew.outbox.empty()

    def discard(self, seconds: float) -> None:
        """Nobody refers to the pool any more. Called on any thread, in the middle of anything."""
        crew, until = self.crew, time.monotonic() + seconds
        if not crew.lock.acquire(timeout=seconds):  # this thread may hold it: whoever looks next ends
            crew.refusal = SHUT_DOWN
            return
        crew.lock.release()
        crew.close(SHUT_DOWN)
        with crew.lock:
            jobs, threads = crew.lanes.clear(), [worker.thread for worker in crew.threads]
        for job in [*jobs, *crew.running()]:
            job.fail(Dropped(), crew.outbox)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))


def _drop(jobs: Iterable[Entry]) -> None:
    for job in jobs:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the future is cancelled, and nobody told
            job.drop(SHUT_DOWN.error())


def _shorter(one: float | None, other: float | None) -> float | None:
    given = [seconds for seconds in (one, other) if seconds is not None]
    return min(given) if given else None


def _reset_after_fork() -> None:
    """In the child there are no workers, and the locks are as they were at some moment."""
    for crew in _crews:
        crew.lock = threading.Lock()
        crew.refusal = FORKED
        crew.workers, crew.threads, crew.idle = set(), set(), []
        crew.lanes.clear()
        crew.line.clear()


os.register_at_fork(after_in_child=_reset_after_fork)
