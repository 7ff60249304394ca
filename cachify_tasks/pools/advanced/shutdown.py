"""How a pool ends: in good order, in time, without its event loop, in a forked child. No future stays pending."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterable
from weakref import WeakSet

from ..errors import PoolError, PoolShutDown
from .completions import Completions
from .jobs import Abandoned
from .scheduler import ClosedReason, Scheduler
from .stalls import StallWatch

JOIN_S = 1.0  # for threads that have nothing more to do
SHUT_DOWN = ClosedReason(PoolShutDown, "the pool is shutting down or has been shut down")
NO_LOOP = ClosedReason(PoolShutDown, "the pool's event loop was closed")
FORKED = ClosedReason(PoolError, "the pool belongs to the process that this one was forked from: make another one here")


class Shutdown:
    """Used in the event loop only, except for `on_loop_closed` and `discard`."""

    def __init__(self, scheduler: Scheduler, loop: asyncio.AbstractEventLoop) -> None:
        self.scheduler = scheduler
        self.loop = loop
        self.completions = scheduler.completions = Completions(loop, self.on_loop_closed)
        self.watch = StallWatch(scheduler, loop)
        _schedulers.add(scheduler)

    def is_over(self) -> bool:
        """Have all workers ended, and are their outcomes delivered?"""
        return self.scheduler.closed is not None and not self.scheduler.threads and not self.completions.ready

    async def run(self, cancel_pending: bool, idle_timeout: float | None, total_timeout: float | None) -> None:
        threads = self._threads()
        deadline = None if total_timeout is None else self.loop.time() + total_timeout
        timeouts = [timeout for timeout in (idle_timeout, total_timeout) if timeout is not None]
        self.scheduler.close(SHUT_DOWN)
        if cancel_pending:
            self._cancel_queued()
        if not await self.completions.wait_until(self.scheduler.is_quiet, min(timeouts, default=None)):
            self._cancel_queued()
        left = None if deadline is None else max(0.0, deadline - self.loop.time())
        if await self.completions.wait_until(self.is_over, left):
            _join(threads, JOIN_S)
        else:
            self.cancel_all()
        self.watch.stop()

    def cancel_all(self) -> None:
        """Stop waiting. A running call cannot be stopped: its result is dropped, and its thread ends after it."""
        self._cancel_all(SHUT_DOWN)
        self.completions.flush()

    def on_loop_closed(self) -> None:
        """The event loop was closed before the pool was shut down. Called by the thread that notices it."""
        self._cancel_all(NO_LOOP)
        self.completions.flush()

    def discard(self, seconds: float) -> None:
        """Nobody refers to the pool any more. The garbage collector may call this in any thread at any moment."""
        deadline = time.monotonic() + seconds
        lock = self.scheduler.lock
        if not lock.acquire(timeout=seconds):  # this very thread may hold it; workers end when they see `closed`
            self.scheduler.closed = SHUT_DOWN
            return
        lock.release()
        self._cancel_all(SHUT_DOWN)
        _join(self._threads(), deadline - time.monotonic())

    def _cancel_all(self, reason: ClosedReason) -> None:
        self.scheduler.close(reason)
        self._cancel_queued()
        for job in self.scheduler.running():
            job.fail(Abandoned(SHUT_DOWN.text), self.completions)

    def _cancel_queued(self) -> None:
        for job in self.scheduler.clear_queue():
            job.fail(Abandoned(SHUT_DOWN.text), self.completions)
        self.completions.notify()

    def _threads(self) -> list[threading.Thread]:
        with self.scheduler.lock:
            return [worker.thread for worker in self.scheduler.threads]


def _join(threads: Iterable[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))


_schedulers: WeakSet[Scheduler] = WeakSet()


def _reset_after_fork() -> None:
    """The child has no workers, and a lock may be held by a thread that exists in the parent only."""
    for scheduler in _schedulers:
        scheduler.lock = threading.Lock()
        scheduler.closed = FORKED
        scheduler.workers = set()
        scheduler.threads = set()
        scheduler.idle = []
        scheduler.queue.clear()
        scheduler.line.clear()
        scheduler.waits.clear()


os.register_at_fork(after_in_child=_reset_after_fork)
