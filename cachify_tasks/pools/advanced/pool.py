"""`AdvancedPool`: blocking functions, called from asyncio, run in threads."""

from __future__ import annotations

import asyncio
import time
import warnings
from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from ..errors import PoolError, PoolFull, PoolShutDown
from . import checks
from .crew import Crew
from .ending import FORKED, SHUT_DOWN, Ending
from .figures import Figures
from .jobs import Entry, Job, Place
from .maps import Maps
from .spread import Spread

T = TypeVar("T")
Seconds = float | timedelta | None


class AdvancedPool(Maps, Figures):
    """Runs functions that block in threads, for one event loop. An asynchronous context manager, entered once.

    A call is a future that can be cancelled while it waits. It has the caller's context variables. Whatever it raises
    is raised by its future alone. At the end of the block what was submitted is finished, unless `kill_at_exit` is set.

    Args:
        max_workers: threads at most; 5 if not given.
        min_workers: threads at least, started with the pool; 1 if not given, and it may be 0.
        qsize: calls that may wait in the queue; None or 0: there is no limit.
        scaling: start threads when there is work for them, and end them when there is none. False: always the most.
        kill_at_exit: the block's end cancels what waits and does not wait for what runs.
        keep_alive: seconds until a thread with nothing to do ends.
        initializer: called first in every thread, with `initargs`. If it raises, the pool takes nothing more.
        name: of the threads, with a number.

    Raises:
        TypeError, ValueError: an argument is of another type, or out of its range.

    >>> async def main() -> int:
    ...     async with AdvancedPool(max_workers=2) as pool:
    ...         return await pool.complete(pow, 2, 10)
    >>> asyncio.run(main())
    1024
    """

    _warns = True  # when it was not shut down

    def __init__(
        self,
        max_workers: int | None = None,
        min_workers: int | None = None,
        qsize: int | None = None,
        scaling: bool = True,
        kill_at_exit: bool = False,
        *,
        keep_alive: Seconds = 10.0,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        name: str = "AdvancedPool",
    ) -> None:
        limits = checks.limits(min_workers, max_workers, keep_alive, scaling=scaling)
        places = None if qsize is None else checks.whole("qsize", qsize, 0)
        begin = _nothing if initializer is None else partial(checks.function(initializer, "initializer"), *initargs)
        self._crew = Crew(limits, places or None, begin, name)
        self._scaling, self._keep_alive, self._kill_at_exit = scaling, keep_alive, kill_at_exit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: Ending | None = None
        self._began = self._ended = 0.0

    async def __aenter__(self) -> Self:
        """Start the threads.

        Raises:
            PoolError: it has been started before, or there is no thread to be had.
        """
        if self._ending is not None or self._crew.refusal is FORKED:
            raise self._crew.refusal.error() if self._crew.refusal else PoolError("the pool has been started already")
        if self._crew.refusal is SHUT_DOWN:
            raise SHUT_DOWN.error()
        self._loop = get_running_loop()
        self._ending = Ending(self._crew, self._loop)
        self._began = time.monotonic()
        try:
            self._crew.open()
        except PoolError:
            self._crew.close(SHUT_DOWN)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.__cleanup__()

    async def __cleanup__(self) -> None:
        """What the block's end does. Cancelled, it waits for nothing any more."""
        try:
            if self._kill_at_exit:
                await self.shutdown(cancel_pending=True, total_timeout=0)
            else:
                await self.shutdown()
        except asyncio.CancelledError:
            if self._ending is not None:
                self._ending.drop_all()
            raise

    def __del__(self) -> None:
        """End without the event loop; waits 0.2 s at most."""
        ending: Ending | None = getattr(self, "_ending", None)
        if ending is None or ending.over() or ending.crew.refusal in (SHUT_DOWN, FORKED):
            return
        if self._warns:
            warnings.warn(f"{self!r} was not shut down: use `async with`", ResourceWarning, source=self, stacklevel=2)
        ending.discard(0.2)

    def __repr__(self) -> str:
        state = self._crew.refusal.text if self._crew.refusal else f"{len(self._crew.workers)} workers"
        return f"<{type(self).__name__} {self._crew.name!r}: {state}>"

    async def complete(
        self, f: Callable[..., T], /, *args: Any, _priority_: int = 0, _timeout_: Seconds = None, **kwargs: Any
    ) -> T:
        """What `f(*args, **kwargs)` returns, or raises, in a thread. Takes and raises what `submit` does."""
        job = self._job(f, args, kwargs, _priority_, _timeout_)
        if self._crew.places is None:
            self._crew.offer(job, _priority_)
        else:
            await self._placed(job, _priority_, _timeout_)
        return await job

    async def submit(
        self, f: Callable[..., T], /, *args: Any, _priority_: int = 0, _timeout_: Seconds = None, **kwargs: Any
    ) -> asyncio.Future[T]:
        """The future of `f(*args, **kwargs)`; waits for a place in the queue, in the order of arrival.

        Args:
            _priority_: the smaller number first, then the order of arrival.
            _timeout_: seconds from now until its result. Then it is not run any more, or its result is dropped.

        Raises:
            TypeError, ValueError: `f` is no function, or an option is out of its range.
            TimeoutError: there was no place in time; the future raises it otherwise.
            PoolShutDown: the pool is shutting down, or has been shut down.
            PoolError: it has not been started, or belongs to another event loop or to another process.
        """
        job = self._job(f, args, kwargs, _priority_, _timeout_)
        await self._placed(job, _priority_, _timeout_)
        return job

    def submit_nowait(
        self, f: Callable[..., T], /, *args: Any, _priority_: int = 0, _timeout_: Seconds = None, **kwargs: Any
    ) -> asyncio.Future[T]:
        """`submit` that does not wait.

        Raises:
            PoolFull: there is no place in the queue; an `asyncio.QueueFull`.
        """
        job = self._job(f, args, kwargs, _priority_, _timeout_)
        self._crew.offer(job, _priority_)
        return job

    def _job(
        self, f: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], priority: int, timeout: Seconds
    ) -> Job[T]:
        job: Job[T] = Job(loop=self._ready(f, priority))
        job.function, job.args, job.kwargs = f, args, kwargs or None
        job.context, job.crew = copy_context(), None
        if timeout is not None:
            job.limit(checks.seconds("_timeout_", timeout) or 0.0)
        return job

    def _ready(self, f: object, priority: int = 0) -> asyncio.AbstractEventLoop:
        """The loop, if the pool can be used here and now, and with this."""
        try:
            loop = get_running_loop()
        except RuntimeError:
            raise self._misplaced() from None
        if loop is not self._loop or self._crew.refusal is not None:
            raise self._misplaced()
        if not callable(f) or priority.__class__ is not int:
            checks.function(f)
            checks.rank(priority)
        return loop

    def _misplaced(self) -> PoolError:
        if self._crew.refusal is not None:
            return self._crew.refusal.error()
        return PoolError("the pool is used outside of its event loop: threads use `as_executor()`")

    async def _placed(self, job: Entry, priority: int, timeout: Seconds) -> None:
        """Offer a job and wait until it is in the queue."""
        if self._crew.places is None:
            self._crew.offer(job, priority)
            return
        place = Place(loop=self._loop)
        if self._crew.offer(job, priority, place):
            return
        try:
            async with asyncio.timeout(checks.seconds("timeout", timeout)):
                await place
        except BaseException:
            self._crew.leave_line(place)
            job.drop(SHUT_DOWN.error())
            raise

    async def _spread(
        self, f: Callable[..., T], rows: list[tuple[Any, ...]], priority: int, timeout: Seconds
    ) -> list[T]:
        if not rows:
            return []
        spread: Spread[T] = Spread(loop=self._ready(f, priority))
        spread.begin(f, rows, copy_context(), priority)
        if timeout is not None:
            spread.limit(checks.seconds("timeout", timeout) or 0.0)
        await self._placed(spread, priority, timeout)
        return await spread

    async def wait_for_slot(self, timeout: Seconds = None) -> float:
        """Wait for a place in the queue; the seconds it took. The place is not reserved.

        Args:
            timeout: seconds at most.

        Raises:
            PoolFull: there was none in time.
            PoolError, PoolShutDown: as `submit`.
        """
        loop, began = self._ready(len), time.monotonic()
        limit = checks.seconds("timeout", timeout)
        place = Place(loop=loop)
        if not self._crew.line_up(place):
            return 0.0
        try:
            async with asyncio.timeout(limit):
                await place
        except TimeoutError:
            raise PoolFull(f"no place became free in {limit:g} s") from None
        finally:
            self._crew.leave_line(place)
            loop.call_soon(self._crew.advance)  # after the caller had its chance to take it
        return time.monotonic() - began

    async def drain(self) -> None:
        """Wait until nothing waits and nothing runs.

        Raises:
            PoolError: as `submit`; not when the pool has been shut down.
        """
        ending = self._started()
        await ending.until(self._crew.calm)

    async def join(self) -> list[int | BaseException]:
        """Wait until all threads have ended, which they do when the pool is shut down.

        Returns:
            For each thread that there was, the last 10,000 of them, how many calls it has completed, or the exception
            that has ended it.
        """
        ending = self._started()
        await ending.until(ending.over)
        return list(self._crew.records)

    def _started(self) -> Ending:
        """What ends the pool, if this is its loop."""
        if self._ending is None or self._crew.refusal is FORKED or get_running_loop() is not self._loop:
            raise self._misplaced()
        return self._ending

    async def resize(self, min_workers: int, max_workers: int) -> None:
        """Set how many threads there may be. Those that are missing are started now; those that are too many end, each
        after what it runs.

        Raises:
            TypeError, ValueError: no whole numbers, the least below 0 or above the most, the most below 1.
            PoolError, PoolShutDown: as `submit`.
        """
        self._ready(len)
        self._crew.resize(checks.limits(min_workers, max_workers, self._keep_alive, scaling=self._scaling))

    async def shutdown(
        self, cancel_pending: bool = False, idle_timeout: Seconds = None, total_timeout: Seconds = None
    ) -> float:
        """Take nothing more, finish what was submitted, and end the threads. Once more, it does no harm.

        A call that runs cannot be interrupted. When the time is over its future is cancelled, and its thread ends with
        the call.

        Args:
            cancel_pending: cancel what waits in the queue.
            idle_timeout: seconds for what waits and runs; then what still waits is cancelled.
            total_timeout: seconds for all of it; then what still waits or runs is cancelled.

        Returns:
            The seconds it took.

        Raises:
            PoolError: the pool belongs to another event loop, which is not closed.
        """
        began = time.monotonic()
        idle, total = checks.seconds("idle_timeout", idle_timeout), checks.seconds("total_timeout", total_timeout)
        ending = self._ending
        if ending is None or self._crew.refusal is FORKED:
            if self._crew.refusal is not FORKED:
                self._crew.refusal = SHUT_DOWN
            return 0.0
        if ending.loop.is_closed():
            ending.orphaned()
            ending.bury()
            return time.monotonic() - began
        if get_running_loop() is not self._loop:
            raise PoolError("the pool is used outside of its event loop")
        await ending.shut_down(cancel_pending, idle, total)
        self._ended = self._ended or time.monotonic()
        return time.monotonic() - began

    def raise_for_shutdown(self) -> None:
        """
        Raises:
            PoolShutDown: the pool is shutting down, or has been shut down.
        """
        if self._crew.refusal is not None and self._crew.refusal.kind is PoolShutDown:
            raise self._crew.refusal.error()

    def as_executor(self) -> Executor:
        """A view of the pool as a `concurrent.futures.Executor`: for code that takes one, and for other threads, which
        may submit through it while the loop runs. Shutting the view down leaves the pool as it is.
        """
        from .view import PoolExecutor

        return PoolExecutor(self, self._crew)


def _nothing() -> None:
    pass
