"""The pool: what a program calls, from top to bottom. What happens to connections is in `connections`."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from ..._checks import Seconds, count, flag, function, seconds
from ..errors import PoolError
from .connections import Connections, shut_down_error
from .errors import PoolTimeout
from .lending import CLOSED, Lender
from .options import MoreOptions, Options, checked_executor, fraction, limit, pause, sizes
from .pool_tasks import logger
from .records import Given, first_arguments
from .statistics import Statistics

T = TypeVar("T")
P = ParamSpec("P")


class ConnectionPool(Lender[T], Statistics[T], Generic[T, P]):
    """Connections that coroutines of one event loop take turns in. Used with `async with`.

    Functions that are no coroutine functions run in threads, or in the executor of `start`.

    Args:
        factory: makes a connection, a new one at each call. Its errors go to the acquire it was called for.
        maxsize: the most connections at once, those included that are being made or cleaned; 1 to 100,000.
        minsize: as many are made at the start, and made anew when they are lost; 0 to `maxsize`.
        maxlife: seconds after which a connection is recycled: at once if it is idle, else when it comes back.
        healthchecker: takes a connection and says whether it is healthy. It is asked before a connection that was idle
            is lent and when one comes back. False, or an error: the connection is given up.
        cleaner: takes a connection that the pool gives up, to close it. An error of it is logged.
        timeout: seconds that an acquire waits at most; None: for ever.
        call_timeout: seconds that one call of the factory, the healthchecker or the cleaner may take; None: any time.
            Then the call is cancelled and its place is free. Where it goes on all the same, as a thread does, its
            connection is cleaned when it ends.
        max_waiting: an acquire raises when so many wait for others' connections; None: no limit.
        max_idle: seconds without use after which connections beyond `minsize` are given up; None: never.
        jitter: the part of `maxlife`, 0 to 1, by which lives differ at most, so that they do not end together.
        backoff: seconds until the pool tries again when it could not make what `minsize` asks for; doubled at each
            failure, up to 60.
        keepalive: seconds after which an idle connection is shown to the healthchecker; None: never.
        leak_after: seconds after which a connection that is still lent is logged, with the stack of its acquire; None:
            no stack is kept. It costs about 20 µs an acquire.
        interval: seconds between two rounds of maintenance at most.
        lifo: True: the connection used last is lent first, so that those beyond need grow old; False: the longest idle.

    Raises:
        TypeError, ValueError: a value cannot be taken; the message names it.

    Example:
        >>> import asyncio, sqlite3
        >>> from cachify_tasks.pools import ConnectionPool
        >>> def connect():
        ...     return sqlite3.connect(":memory:", check_same_thread=False)
        >>> async def main():
        ...     async with ConnectionPool(connect, maxsize=4, cleaner=sqlite3.Connection.close) as pool:
        ...         async with pool.connection() as conn:
        ...             return conn.execute("select 6 * 7").fetchone()
        >>> asyncio.run(main())
        (42,)
    """

    @overload
    def __init__(
        self,
        factory: Callable[P, Awaitable[T]],
        maxsize: int = ...,
        minsize: int = ...,
        maxlife: Seconds = ...,
        healthchecker: Callable[[T], Awaitable[bool] | bool] | None = ...,
        cleaner: Callable[..., Any] | None = ...,
        **more: Unpack[MoreOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        factory: Callable[P, T],
        maxsize: int = ...,
        minsize: int = ...,
        maxlife: Seconds = ...,
        healthchecker: Callable[[T], Awaitable[bool] | bool] | None = ...,
        cleaner: Callable[..., Any] | None = ...,
        **more: Unpack[MoreOptions],
    ) -> None: ...

    def __init__(
        self,
        factory: Callable[..., Any],
        maxsize: int = 10,
        minsize: int = 1,
        maxlife: Seconds = 3600.0,
        healthchecker: Callable[[Any], Any] | None = None,
        cleaner: Callable[..., Any] | None = None,
        *,
        timeout: Seconds | None = 30.0,
        call_timeout: Seconds | None = 30.0,
        max_waiting: int | None = None,
        max_idle: Seconds | None = 600.0,
        jitter: float = 0.05,
        backoff: Seconds = 1.0,
        keepalive: Seconds | None = 30.0,
        leak_after: Seconds | None = None,
        interval: Seconds = 30.0,
        lifo: bool = True,
    ) -> None:
        least, most = sizes(minsize, maxsize)
        options = Options(
            factory=function("factory", factory),
            maxlife=seconds("maxlife", maxlife, exclusive=True, infinite=True),
            healthchecker=None if healthchecker is None else function("healthchecker", healthchecker),
            cleaner=None if cleaner is None else function("cleaner", cleaner),
            timeout=limit("timeout", timeout),
            call_timeout=pause("call_timeout", call_timeout),
            max_waiting=None if max_waiting is None else count("max_waiting", max_waiting, least=0),
            max_idle=pause("max_idle", max_idle),
            jitter=fraction("jitter", jitter),
            backoff=seconds("backoff", backoff, exclusive=True),
            keepalive=pause("keepalive", keepalive),
            leak_after=pause("leak_after", leak_after),
            interval=seconds("interval", interval, exclusive=True),
        )
        super().__init__(Connections(options, least, most, lifo=flag("lifo", lifo)))
        self._maintaining: asyncio.Task[None] | None = None

    # Start and stop

    async def start(
        self,
        akgen: Iterable[Given] | AsyncIterable[Given] | None = None,
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
        connections, loop = self._connections, get_running_loop()
        given = checked_executor("executor", executor)
        self._refuse_a_fork()
        while connections.starting:  # another task starts it; if that fails this one tries
            self._refuse_another_loop(loop)
            await connections.change()
        if connections.is_open:
            self._refuse_another_loop(loop)
            return
        if connections.records or connections.tasks:
            left = (
                f"{len(connections.records)} connections are still lent, {len(connections.tasks)} functions still run"
            )
            raise PoolError(f"the pool cannot start before its last life is over: {left}")
        connections.loop = loop
        connections.functions.open(given, connections.maxsize)
        connections.starting = True
        try:
            planned = await first_arguments(connections.minsize, akgen)
            connections.is_open = self._ever_started = True
            makings = [connections.make(arguments) for arguments in planned]
            for making in makings:
                failure = await asyncio.shield(making)
                if failure is not None:
                    raise failure
        except BaseException:
            connections.starting = False
            await self.stop()
            self._ever_started = False
            raise
        finally:
            connections.starting = False
            connections.notify_change()
        if not connections.is_open:
            raise shut_down_error()
        self._maintaining = loop.create_task(self._maintenance.run())
        self._tune_fast_path()
        connections.serve()

    async def stop(self, timeout: Seconds | None = 30.0) -> None:
        """Clean idle connections now and lent ones when they come back; acquires that wait get `PoolShutDown`.

        A second time, before the start and in a forked child nothing happens.

        Args:
            timeout: seconds to wait for factories, healthcheckers and cleaners that run, which are cancelled then;
                what runs in a thread is not waited for any more. None: wait for ever.

        Raises:
            PoolError: the pool belongs to another event loop.
        """
        connections, patience = self._connections, limit("timeout", timeout)
        if connections.loop is None or self._forked:
            return
        self._refuse_another_loop(get_running_loop())
        if connections.is_open:
            self._fast_path_loop = CLOSED
            if self._maintaining is not None:
                self._maintaining.cancel()
            connections.close()
            self._patience.stop()
        try:
            await self._wait_for_tasks(patience)
        finally:
            await connections.functions.close()

    async def _wait_for_tasks(self, patience: float | None) -> None:
        """Wait for the pool's own tasks, which may start others."""
        loop, mine = get_running_loop(), self._connections.current()
        until = None if patience is None else loop.time() + patience
        while running := {
            task
            for task in (*self._connections.tasks, self._maintaining)
            if task and task is not mine and not task.done()
        }:
            left = None if until is None else max(0.0, until - loop.time())
            _, late = await asyncio.wait(running, timeout=left)
            if late:
                for task in late:
                    task.cancel()
                await asyncio.wait(late, timeout=0.1)
                logger.warning("the pool was stopped while %d of its functions still ran", len(late))
                return

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        await self.stop()

    async def create_connection(self, *a: object, **k: object) -> T:
        """A connection of the caller's own: the pool does not count it, lend it or clean it.

        Args:
            *a, **k: for the factory.
            _executor_: where a factory runs that is no coroutine function. Not given: as `start` was told.

        Raises:
            PoolTimeout: the factory has not answered within `call_timeout`; what it makes later is cleaned.
            Exception: what the factory raised.
        """
        call = self._connections.functions.call
        if "_executor_" in k:
            call = partial(self._connections.functions.call_in, checked_executor("_executor_", k.pop("_executor_")))
        made: T = await self._connections.call_factory(partial(call, self._options.factory, *a, **k))
        return made

    async def resize(self, minsize: int | None = None, maxsize: int | None = None) -> None:
        """Change the limits. Idle connections beyond are given up now, lent ones when they come back.

        Args:
            minsize, maxsize: as of the pool; None: unchanged.

        Raises:
            TypeError, ValueError: a value cannot be taken; nothing has been changed.
        """
        self._check_usable(get_running_loop())
        connections = self._connections
        least = connections.minsize if minsize is None else minsize
        most = connections.maxsize if maxsize is None else maxsize
        connections.minsize, connections.maxsize = sizes(least, most)
        cleanings = []
        while connections.idle and connections.total - connections.cleaning > connections.maxsize:
            cleanings.append(connections.retire(connections.idle.popleft()))
        self._tune_fast_path()
        connections.serve()
        if running := [cleaning for cleaning in cleanings if cleaning is not None]:
            await asyncio.wait(running)

    async def wait(self, timeout: Seconds | None = None) -> None:
        """Returns when there are `minsize` connections, lent ones included: after an outage, say.

        Args:
            timeout: seconds; None: for ever.

        Raises:
            PoolTimeout: there are fewer by then.
            PoolShutDown: the pool is stopped.
        """
        patience = limit("timeout", timeout)
        self._check_usable(get_running_loop())
        async with self._until(patience, lambda: f"{self.currsize} of minsize {self._connections.minsize} connections"):
            while self.currsize < self._connections.minsize:
                await self._change()

    async def drain(self, timeout: Seconds | None = None) -> None:
        """Replace all connections: idle ones now, lent ones when they come back; the pool goes on meanwhile.

        Returns when all that there were have been cleaned, so not before those that were lent are back.

        Args:
            timeout: seconds; None: for ever. What is left by then is replaced all the same, later.

        Raises:
            PoolTimeout: some are still lent by then.
            PoolShutDown: the pool is stopped.
        """
        patience = limit("timeout", timeout)
        self._check_usable(get_running_loop())
        connections = self._connections
        old = [*connections.records.values()]
        for record in old:
            connections.retire_on_return(record)

        def left() -> int:
            return sum(connections.records.get(record.key) is record for record in old)

        async with self._until(patience, lambda: f"{left()} connections are not back yet"):
            while left():
                await self._change()

    async def _change(self) -> None:
        """Wait until something has changed, as long as the pool is open."""
        self._check_usable(get_running_loop())
        await self._connections.change()

    @asynccontextmanager
    async def _until(self, patience: float | None, describe: Callable[[], str]) -> AsyncIterator[None]:
        deadline = asyncio.timeout(patience)
        try:
            async with deadline:
                yield
        except TimeoutError:
            if not deadline.expired():
                raise
            raise PoolTimeout(f"after {patience:g} s: {describe()}") from None

    def __repr__(self) -> str:
        state = "open" if self._connections.is_open else "stopped" if self._ever_started else "not started"
        return f"<ConnectionPool {state}: {self._describe()}>"
