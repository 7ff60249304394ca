"""`AdvancedPool`: blocking functions, called from asyncio, run in threads."""

from __future__ import annotations

import asyncio
import time
import warnings
from asyncio import get_running_loop
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from ..._checks import arguments, count, flag, function, integer, seconds
from ..errors import PoolError, PoolFull, PoolShutDown
from .jobs import Job, MapJob, PoolFuture
from .limits import Timeout, limits, optional_seconds
from .maps import Maps, Row
from .scheduler import NOT_STARTED, Scheduler
from .shutdown import FORKED, JOIN_S, SHUT_DOWN, Shutdown
from .stats import Statistics

T = TypeVar("T")


class AdvancedPool(Maps, Statistics):
    """Runs functions that block in threads, for one event loop. An asynchronous context manager, entered once.

    A call is a future, which can be cancelled while the call waits. The call has the caller's context variables, and
    only its future raises what it raises. The end of the block waits for all submitted calls, unless `kill_at_exit` is
    set.

    Args:
        max_workers: the most threads, up to 10,000; 5 if not given.
        min_workers: the fewest threads, started with the pool; 1 if not given, and it may be 0.
        qsize: the most calls in the queue; None or 0: no limit.
        scaling: start threads when there is work for them, and end them when there is none. False: always the most.
        kill_at_exit: the end of the block cancels waiting calls and does not wait for running ones.
        keep_alive: seconds until a thread that has nothing to do ends.
        initializer: called first in every thread, with `initargs`. If it raises, each call gets that.
        name: the first part of the threads' names.

    Raises:
        TypeError, ValueError: an argument has a wrong type or is out of its range.

    >>> async def main() -> int:
    ...     async with AdvancedPool(max_workers=2) as pool:
    ...         return await pool.complete(pow, 2, 10)
    >>> asyncio.run(main())
    1024
    """

    _warns = True  # when it is forgotten without a shutdown

    def __init__(
        self,
        max_workers: int | None = None,
        min_workers: int | None = None,
        qsize: int | None = None,
        scaling: bool = True,
        kill_at_exit: bool = False,
        *,
        keep_alive: Timeout = 10.0,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[object, ...] = (),
        name: str = "AdvancedPool",
    ) -> None:
        args = arguments("initargs", initargs)
        self._limits = partial(limits, keep_alive=keep_alive, scaling=scaling)
        self._scheduler = Scheduler(
            self._limits(min_workers, max_workers),
            None if qsize is None else count("qsize", qsize, least=0) or None,
            _nothing if initializer is None else partial(function("initializer", initializer), *args),
            name,
        )
        self._kill_at_exit = flag("kill_at_exit", kill_at_exit)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shutdown: Shutdown | None = None
        self._began = 0.0
        self._ended = 0.0

    async def __aenter__(self) -> Self:
        """Start the threads.

        Raises:
            PoolError: the pool was started before, or no thread can be started.
        """
        closed = self._scheduler.closed
        if closed is not NOT_STARTED:
            raise closed.error() if closed else PoolError("the pool has been started already")
        self._loop = get_running_loop()
        self._shutdown = Shutdown(self._scheduler, self._loop)
        self._began = time.monotonic()
        try:
            self._scheduler.open()
        except PoolError:
            self._scheduler.close(SHUT_DOWN)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.__cleanup__()

    async def __cleanup__(self) -> None:
        """What the end of the block does. If it is cancelled, it stops waiting."""
        try:
            if self._kill_at_exit:
                await self.shutdown(cancel_pending=True, total_timeout=0)
            else:
                await self.shutdown()
        except asyncio.CancelledError:
            if self._shutdown is not None:
                self._shutdown.cancel_all()
            raise

    def __del__(self) -> None:
        """Shut down without the event loop; blocks for 0.2 s at most."""
        shutdown: Shutdown | None = getattr(self, "_shutdown", None)
        if shutdown is None or shutdown.is_over() or self._scheduler.closed in (SHUT_DOWN, FORKED):
            return
        if self._warns:
            warnings.warn(f"{self!r} was not shut down: use `async with`", ResourceWarning, source=self, stacklevel=2)
        shutdown.discard(0.2)

    def __repr__(self) -> str:
        closed = self._scheduler.closed
        state = closed.text if closed else f"{len(self._scheduler.workers)} workers"
        return f"<{type(self).__name__} {self._scheduler.name!r}: {state}>"

    async def complete(
        self, f: Callable[..., T], /, *args: object, _priority_: int = 0, _timeout_: Timeout = None, **kwargs: object
    ) -> T:
        """The result of `f(*args, **kwargs)`, run in a thread. Takes the options of `submit` and raises its errors."""
        job = self._job(f, args, kwargs, _priority_, _timeout_)
        if self._scheduler.capacity is None:
            self._scheduler.offer(job, _priority_)  # `_enqueue`, without another coroutine
        else:
            await self._enqueue(job, _priority_, _timeout_)
        return await job

    async def submit(
        self, f: Callable[..., T], /, *args: object, _priority_: int = 0, _timeout_: Timeout = None, **kwargs: object
    ) -> asyncio.Future[T]:
        """The future of `f(*args, **kwargs)`; waits for a free slot in the queue, in the order of arrival.

        Args:
            _priority_: the smaller number first, then the order of arrival.
            _timeout_: seconds from now until its result. After them the call is not run, or its result is dropped.

        Raises:
            TypeError, ValueError: `f` is no function, or an option is out of its range.
            TimeoutError: no slot became free in time. Later the future raises it.
            PoolShutDown: the pool is shutting down, or has been shut down.
            PoolError: it has not been started, or belongs to another event loop or to another process.
        """
        job = self._job(f, args, kwargs, _priority_, _timeout_)
        await self._enqueue(job, _priority_, _timeout_)
        return job

    def submit_nowait(
        self, f: Callable[..., T], /, *args: object, _priority_: int = 0, _timeout_: Timeout = None, **kwargs: object
    ) -> Job[T]:
        """`submit` that does not wait.

        Raises:
            PoolFull: there is no free slot in the queue; an `asyncio.QueueFull`.
        """
        job = self._job(f, args, kwargs, _priority_, _timeout_)
        self._scheduler.offer(job, _priority_)
        return job

    def _job(
        self, f: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object], priority: int, timeout: Timeout
    ) -> Job[T]:
        job: Job[T] = Job(loop=self._check_call(f, priority))
        job.function = f
        job.args = args
        job.kwargs = kwargs or None
        job.context = copy_context()
        job.scheduler = None
        if timeout is not None:
            job.expire_in(seconds("_timeout_", timeout, infinite=True))
        return job

    def _check_call(self, f: object = len, priority: int = 0) -> asyncio.AbstractEventLoop:
        """The event loop, if the pool can be used here and now, and can run `f`."""
        try:
            loop = get_running_loop()
        except RuntimeError:
            raise self._misuse() from None
        if loop is not self._loop or self._scheduler.closed is not None:
            raise self._misuse()
        if not callable(f) or priority.__class__ is not int:
            function("f", f)
            integer("priority", priority)
        return loop

    def _misuse(self) -> PoolError:
        if self._scheduler.closed is not None:
            return self._scheduler.closed.error()
        return PoolError("the pool is used outside of its event loop: threads use `as_executor()`")

    async def _enqueue(self, job: Job[Any], priority: int, timeout: Timeout) -> None:
        """Offer a job, and wait until it is in the queue."""
        if self._scheduler.capacity is None:
            self._scheduler.offer(job, priority)
            return
        waiter: PoolFuture[None] = PoolFuture(loop=self._loop)
        if self._scheduler.offer(job, priority, waiter):
            return
        try:
            async with asyncio.timeout(optional_seconds("timeout", timeout)):
                await waiter
        except BaseException:
            self._scheduler.leave_line(waiter)
            job.cancel()
            raise

    async def _run_map(self, f: Callable[..., T], rows: Sequence[Row], priority: int, timeout: Timeout) -> list[T]:
        if not rows:
            return []
        job = MapJob(f, rows, copy_context(), priority, loop=self._check_call(f, priority))
        if timeout is not None:
            job.expire_in(seconds("timeout", timeout, infinite=True))
        await self._enqueue(job, priority, timeout)
        return await job

    async def wait_for_slot(self, timeout: Timeout = None) -> float:
        """Wait for a free slot in the queue, which is not reserved; the seconds it took.

        Args:
            timeout: the most seconds.

        Raises:
            PoolFull: no slot became free in time.
            PoolError, PoolShutDown: as `submit`.
        """
        loop = self._check_call()
        began = time.monotonic()
        limit = optional_seconds("timeout", timeout)
        waiter: PoolFuture[None] = PoolFuture(loop=loop)
        if not self._scheduler.join_line(waiter):
            return 0.0
        try:
            async with asyncio.timeout(limit):
                await waiter
        except TimeoutError:
            raise PoolFull(f"no slot in the queue became free in {limit:g} s") from None
        finally:
            self._scheduler.leave_line(waiter)
            loop.call_soon(self._scheduler.admit)  # after the caller has had its chance to use the slot
        return time.monotonic() - began

    async def drain(self) -> None:
        """Wait until no call waits or runs.

        Raises:
            PoolError: as `submit`; not when the pool has been shut down.
        """
        shutdown = self._check_started()
        await shutdown.completions.wait_until(self._scheduler.is_quiet)

    async def join(self) -> list[int | BaseException]:
        """Wait until all threads have ended, which they do when the pool is shut down.

        Returns:
            For each thread that has ended, how many calls it has completed, or the exception that has ended it. Only
            the last 10,000 are remembered.
        """
        shutdown = self._check_started()
        await shutdown.completions.wait_until(shutdown.is_over)
        return list(self._scheduler.records)

    def _check_started(self) -> Shutdown:
        if self._shutdown is None or self._scheduler.closed is FORKED or get_running_loop() is not self._loop:
            raise self._misuse()
        return self._shutdown

    async def resize(self, min_workers: int, max_workers: int) -> None:
        """Set how many threads there may be. Missing ones are started now; surplus ones end after their present call.

        Raises:
            TypeError, ValueError: a limit is no int or out of its range.
            PoolError, PoolShutDown: as `submit`.
        """
        self._check_call()
        self._scheduler.resize(self._limits(min_workers, max_workers))

    async def shutdown(
        self, cancel_pending: bool = False, idle_timeout: Timeout = None, total_timeout: Timeout = None
    ) -> float:
        """Accept no more calls, finish the submitted ones, and end the threads. A second shutdown is harmless.

        A running call cannot be interrupted. When the time is over, its future is cancelled, and its thread ends after
        the call.

        Args:
            cancel_pending: cancel the calls that wait in the queue.
            idle_timeout: seconds to wait for all calls; then those that still wait in the queue are cancelled.
            total_timeout: seconds for the whole shutdown; then all remaining calls are cancelled.

        Returns:
            The seconds it took.

        Raises:
            PoolError: the pool belongs to another event loop, which is not closed.
        """
        began = time.monotonic()
        flag("cancel_pending", cancel_pending)
        idle = optional_seconds("idle_timeout", idle_timeout)
        total = optional_seconds("total_timeout", total_timeout)
        shutdown = self._shutdown
        if self._scheduler.closed is FORKED:
            return 0.0
        if shutdown is None:  # it was never started
            self._scheduler.closed = SHUT_DOWN
            return 0.0
        if shutdown.loop.is_closed():
            shutdown.discard(JOIN_S)
            return time.monotonic() - began
        if get_running_loop() is not self._loop:
            raise PoolError("the pool is used outside of its event loop")
        await shutdown.run(cancel_pending, idle, total)
        self._ended = self._ended or time.monotonic()
        return time.monotonic() - began

    def raise_for_shutdown(self) -> None:
        """
        Raises:
            PoolShutDown: the pool is shutting down, or has been shut down.
        """
        closed = self._scheduler.closed
        if closed is not None and closed.kind is PoolShutDown:
            raise closed.error()

    def as_executor(self) -> Executor:
        """The pool as a `concurrent.futures.Executor`: for code that takes one, and for other threads, which may submit
        through it while the event loop runs. Shutting the executor down does not shut the pool down.
        """
        from .executor import PoolExecutor

        return PoolExecutor(self, self._scheduler)


def _nothing() -> None:
    pass
