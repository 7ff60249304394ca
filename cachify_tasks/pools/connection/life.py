"""The life of a pool: its start, its stop, and who may use it in between."""

from __future__ import annotations

import asyncio
import itertools
import os
from asyncio import get_running_loop
from collections.abc import AsyncIterable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar
from weakref import WeakSet

from ..errors import PoolError
from . import options
from .options import Seconds
from .records import PLAIN, Recipe
from .shelf import NOWHERE
from .stock import logger
from .upkeep import Upkeep

T = TypeVar("T")

Arguments = tuple[Iterable[Any], Mapping[str, Any]]

pools: WeakSet[Any] = WeakSet()  # what a forked child must leave alone


class Life(Upkeep[T]):
    def __init__(self) -> None:
        super().__init__()
        self._forked = False
        self._ever_started = False
        self._maintenance: asyncio.Task[None] | None = None
        pools.add(self)

    async def start(
        self,
        akgen: Iterable[Arguments] | AsyncIterable[Arguments] | None = None,
        executor: Executor | None = None,
    ) -> None:
        """Make `minsize` connections and open the pool. Of a pool that is open it changes nothing.

        Args:
            akgen: gives (args, kwargs) for the factory, for one connection after the other; also asynchronously. What
                it gives beyond `minsize` is left in it; if it gives less, the factory is called without arguments.
            executor: where functions run that are no coroutine functions; None: in threads of the pool's own,
                at most `maxsize`.

        Raises:
            Exception: what the factory raised first; what was made is cleaned, and nothing has been started.
            PoolError: the pool belongs to another event loop or to the parent process, or connections of its life
                before are still lent.
        """
        options.executor("executor", executor)
        loop = get_running_loop()
        self._refuse_a_fork()
        while self._starting:  # another task starts it; if that fails this one tries
            self._refuse_another(loop)
            await self._change()
        if self._open:
            self._refuse_another(loop)
            return
        if self._records or self._tasks:
            left = f"{len(self._records)} connections are still lent, {len(self._tasks)} functions still run"
            raise PoolError(f"the pool cannot start before its last life is over: {left}")
        self._loop = loop
        self._calls.open(executor, self._maxsize)
        self._starting = True
        try:
            recipes = await _first(self._minsize, akgen)
            self._open = self._ever_started = True
            makings = [self._make(recipe) for recipe in recipes]
            for making in makings:
                failure = await asyncio.shield(making)
                if failure is not None:
                    raise failure
        except BaseException:
            self._starting = False
            await self.stop()
            self._ever_started = False
            raise
        finally:
            self._starting = False
            self._tell()
        if not self._open:
            raise self._closed_error()
        self._maintenance = loop.create_task(self._maintain())
        self._tune()
        self._serve()

    async def stop(self, timeout: Seconds | None = 30.0) -> None:
        """Clean what is idle now and what is lent when it comes back; who waits gets PoolShutDown.

        A second time, before the start and in a forked child nothing happens.

        Args:
            timeout: seconds to wait for factories, healthcheckers and cleaners that run, which are cancelled then;
                what runs in a thread is not waited for any more. None: wait for ever.

        Raises:
            PoolError: the pool belongs to another event loop.
        """
        limit = options.optional_seconds("timeout", timeout, zero=True)
        if self._loop is None or self._forked:
            return
        self._refuse_another(get_running_loop())
        if self._open:
            self._open, self._home = False, NOWHERE
            self._forget_failures()
            self._recipes.clear()
            if self._maintenance is not None:
                self._maintenance.cancel()
            self._waiters.fail(self._closed_error)
            for record in [*self._records.values()]:
                self._doom(record)
            self._await_expiry()
            self._tell()
        try:
            await self._settled(limit)
        finally:
            await self._calls.close()

    async def _settled(self, limit: float | None) -> None:
        """Wait for the pool's own tasks, which may start others."""
        assert self._loop is not None
        until = None if limit is None else self._loop.time() + limit
        mine = asyncio.current_task()
        while running := {
            task for task in (*self._tasks, self._maintenance) if task and task is not mine and not task.done()
        }:
            left = None if until is None else max(0.0, until - self._loop.time())
            _, late = await asyncio.wait(running, timeout=left)
            if late:
                for task in late:
                    task.cancel()
                await asyncio.wait(late, timeout=0.1)
                logger.warning("the pool was stopped while %d of its functions still ran", len(late))
                return

    async def _change(self) -> None:
        """Wait until something has changed."""
        loop = get_running_loop()
        if not self._starting:
            self._refuse_misuse(loop)
        if self._news is None or self._news.done():
            self._news = loop.create_future()
        await asyncio.shield(self._news)

    def _refuse_misuse(self, loop: asyncio.AbstractEventLoop) -> None:
        self._refuse_a_fork()
        if self._loop is None or not self._ever_started:
            raise PoolError("the pool has not been started: use `async with pool`, or `await pool.start()`")
        self._refuse_another(loop)
        if not self._open:
            raise self._closed_error()

    def _refuse_another(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            state = "has been closed" if self._loop is not None and self._loop.is_closed() else "is another one"
            raise PoolError(
                f"the pool belongs to the event loop it was started in, which {state}; make a pool for each"
            )

    def _refuse_a_fork(self) -> None:
        if self._forked:
            raise PoolError(
                f"the pool is the parent's, not that of this process ({os.getpid()}); make one after the fork"
            )


async def _first(number: int, akgen: Any) -> list[Recipe]:
    """So many recipes, no more taken out of the generator."""
    given: list[Any] = []
    if isinstance(akgen, AsyncIterable):
        if number:
            async for pair in akgen:
                given.append(pair)
                if len(given) == number:
                    break
    elif isinstance(akgen, Iterable):
        given += itertools.islice(akgen, number)
    elif akgen is not None:
        raise TypeError(f"akgen is an iterable of (args, kwargs) or None, not {akgen!r}")
    try:
        recipes = [Recipe(tuple(args), dict(kwargs)) for args, kwargs in given]
    except (TypeError, ValueError) as error:
        raise TypeError(f"akgen gives pairs of arguments, (args, kwargs); it gave {given!r}") from error
    return recipes + [PLAIN] * (number - len(recipes))


def _after_fork() -> None:
    for pool in pools:
        pool._forked, pool._open, pool._home = True, False, NOWHERE


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
