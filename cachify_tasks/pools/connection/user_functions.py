"""Functions of the user: coroutine functions are awaited, others run in threads."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeAlias

from ..advanced import AdvancedPool
from ..advanced.jobs import Job
from ..advanced.limits import MOST_WORKERS
from ..errors import PoolError

Outcome: TypeAlias = tuple[object, BaseException | None]


class _Threads(AdvancedPool):
    _warns = False  # the user's pool is another one
    _most = 0
    _abandoned = 0

    def count_abandoned(self, change: int) -> None:
        """Make up for threads that run what nobody waits for: at most as many again."""
        self._most = self._most or self._scheduler.limits.most
        self._abandoned += change
        with suppress(PoolError):  # the pool is being stopped
            self._scheduler.resize(self._limits(0, self._most + min(self._abandoned, self._most)))


class UserFunctions:
    """Awaits coroutine functions, and runs others in threads: those of the executor that was given, else those of an
    `AdvancedPool`, which comes with the first such call and goes with the pool.

    Args:
        must_run: a function that is called even if the call was cancelled before a thread was free for it.
    """

    def __init__(self, must_run: Callable[..., object] | None = None) -> None:
        self._must_run = must_run
        self._executor: Executor | None = None
        self._threads: _Threads | None = None
        self._most = 0
        self._open = False

    def open(self, executor: Executor | None, most: int) -> None:
        """most: threads, where no executor is given."""
        self._executor, self._open, self._threads = executor, True, None
        self._most = min(most, MOST_WORKERS // 2)  # as many again for threads that stand still

    async def close(self) -> None:
        """What runs goes on, and what is called from now on runs in the event loop's executor."""
        self._open = False
        if self._threads is not None:
            await _end(self._threads)

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return await self.call_in(self._executor, function, *args, **kwargs)

    async def call_in(
        self, executor: Executor | None, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """What the function gives. What runs in a thread cannot be cancelled: it is waited for."""
        if is_async(function):
            return await function(*args, **kwargs)
        work = functools.partial(_outcome, functools.partial(copy_context().run, function, *args, **kwargs))
        if executor is None and self._open:
            answer, error = await self._in_threads(work, must_run=function is self._must_run)
        else:
            answer, error = await _waited_for(
                asyncio.get_running_loop().run_in_executor(executor, work), on_cancel=lambda: False
            )
        if error is not None:
            raise error
        return await answer if inspect.isawaitable(answer) else answer

    async def _in_threads(self, work: Callable[[], Outcome], *, must_run: bool) -> Outcome:
        if self._threads is None:
            self._threads = await _Threads(self._most, 0, name="ConnectionPool").__aenter__()
        threads = self._threads
        job: Job[Outcome] = threads.submit_nowait(work)
        abandoned = False

        def on_cancel() -> bool:
            nonlocal abandoned
            if abandoned and not self._open:  # nor does the end of the event loop wait for a thread that stands still
                return True
            if not abandoned and (must_run or not job.cancel_in_queue()):
                abandoned = True
                threads.count_abandoned(+1)
            return job.cancelled()

        try:
            return await _waited_for(job, on_cancel)
        finally:
            if abandoned:
                threads.count_abandoned(-1)
            if not self._open or threads is not self._threads:  # the pool was stopped, and perhaps started again
                with suppress(asyncio.CancelledError):  # the outcome is there: it must not be lost
                    await _end(threads)


async def _end(threads: _Threads) -> None:
    """End them, unless something runs there: who waits for that does it then."""
    if threads.idle:
        await threads.shutdown()


async def _waited_for(running: asyncio.Future[Outcome], on_cancel: Callable[[], bool]) -> Outcome:
    """What runs in a thread cannot be cancelled: it is waited for, unless `on_cancel` says that nobody does."""
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            if on_cancel() or running.cancelled():
                raise
    return running.result()


def name_of(function: Callable[..., object]) -> str:
    """How a log line names it."""
    function = _without_partial(function)
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def is_async(function: Callable[..., object]) -> bool:
    function = _without_partial(function)
    called = inspect.getattr_static(type(function), "__call__", None)  # of an object that can be called
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def _without_partial(function: Callable[..., object]) -> Callable[..., object]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _outcome(function: Callable[[], object]) -> Outcome:
    """The error as a value: a future cannot carry a StopIteration, it would stay pending."""
    try:
        return function(), None
    except BaseException as error:  # noqa: BLE001  # raised where it is waited for
        return None, error


def accepts(function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> bool:
    """Whether the function can be called so."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return False
    return True
