"""The pool: what a program calls."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from . import options
from .errors import PoolTimeout
from .lending import Lending
from .options import More, Seconds
from .quick import Quick
from .records import ConnectionPoolStats

T = TypeVar("T")
P = ParamSpec("P")


class ConnectionPool(Quick[T], Generic[T, P]):
    """Connections that coroutines of one event loop take turns in. Used with `async with`.

    Functions that are no coroutine functions run in threads, or in the executor of `start`.

    Args:
        factory: makes a connection, a new one at each call. Its errors go to the acquire it was called for.
        maxsize: the most connections at once, those included that are being made or cleaned; at least 1.
        minsize: as many are made at the start, and made anew when they are lost; 0 to `maxsize`.
        maxlife: seconds after which a connection is recycled: at once if it is idle, else when it comes back.
        healthchecker: takes a connection and says whether it is healthy. It is asked before a connection that was idle
            is lent and when one comes back. False, or an error: the connection is given up.
        cleaner: takes a connection that the pool gives up, to close it. An error of it is logged.
        timeout: seconds that an acquire waits at most; None: for ever.
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
        **more: Unpack[More],
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
        **more: Unpack[More],
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
        timeout: Seconds | None = None,
        max_waiting: int | None = None,
        max_idle: Seconds | None = 600.0,
        jitter: float = 0.05,
        backoff: Seconds = 1.0,
        keepalive: Seconds | None = 30.0,
        leak_after: Seconds | None = None,
        interval: Seconds = 30.0,
        lifo: bool = True,
    ) -> None:
        super().__init__()
        self._minsize, self._maxsize = options.sizes(minsize, maxsize)
        self._options = options.Options(
            factory=options.function("factory", factory),
            maxlife=options.seconds("maxlife", maxlife, endless=True),
            healthchecker=None if healthchecker is None else options.function("healthchecker", healthchecker),
            cleaner=None if cleaner is None else options.function("cleaner", cleaner),
            timeout=options.optional_seconds("timeout", timeout, zero=True),
            max_waiting=None if max_waiting is None else options.count("max_waiting", max_waiting, 0),
            max_idle=options.optional_seconds("max_idle", max_idle),
            jitter=options.fraction("jitter", jitter),
            backoff=options.seconds("backoff", backoff),
            keepalive=options.optional_seconds("keepalive", keepalive),
            leak_after=options.optional_seconds("leak_after", leak_after),
            interval=options.seconds("interval", interval),
        )
        self._take = self._idle.pop if lifo else self._idle.popleft

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        await self.stop()

    def connection(self, *a: object, **k: object) -> Lending[T]:
        """`async with pool.connection() as conn`: acquires, and releases in the end. Takes what `acquire` takes."""
        return Lending(self, a, k)

    async def create_connection(self, *a: object, **k: object) -> T:
        """A connection of the caller's own: the pool does not count it, lend it or clean it.

        Args:
            *a, **k: for the factory.
            _executor_: where a factory runs that is no coroutine function. Not given: as `start` was told.

        Raises:
            Exception: what the factory raised.
        """
        if "_executor_" in k:
            executor = options.executor("_executor_", k.pop("_executor_"))
            made: T = await self._calls.call_in(executor, self._options.factory, *a, **k)
        else:
            made = await self._calls.call(self._options.factory, *a, **k)
        return made

    async def resize(self, minsize: int | None = None, maxsize: int | None = None) -> None:
        """Change the limits. Idle connections beyond are given up now, lent ones when they come back.

        Args:
            minsize, maxsize: as of the pool; None: unchanged.

        Raises:
            TypeError, ValueError: a value cannot be taken; nothing has been changed.
        """
        self._refuse_misuse(get_running_loop())
        least = self._minsize if minsize is None else minsize
        most = self._maxsize if maxsize is None else maxsize
        self._minsize, self._maxsize = options.sizes(least, most)
        cleanings = []
        while self._idle and self._places - self._cleaning > self._maxsize:
            cleanings.append(self._retire(self._idle.popleft()))
        self._tune()
        self._serve()
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
        limit = options.optional_seconds("timeout", timeout, zero=True)
        self._refuse_misuse(get_running_loop())
        async with self._until(limit, lambda: f"{self.currsize} of minsize {self._minsize} connections"):
            while self.currsize < self._minsize:
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
        limit = options.optional_seconds("timeout", timeout, zero=True)
        self._refuse_misuse(get_running_loop())
        old = [*self._records.values()]
        for record in old:
            self._doom(record)

        def left() -> int:
            return sum(self._records.get(record.key) is record for record in old)

        async with self._until(limit, lambda: f"{left()} connections are not back yet"):
            while left():
                await self._change()

    @asynccontextmanager
    async def _until(self, limit: float | None, told: Callable[[], str]) -> AsyncIterator[None]:
        deadline = asyncio.timeout(limit)
        try:
            async with deadline:
                yield
        except TimeoutError:
            if not deadline.expired():
                raise
            raise PoolTimeout(f"after {limit:g} s: {told()}") from None

    def stats(self) -> ConnectionPoolStats:
        """What it has, what it does and what it has done, at this moment."""
        counts = self._counts
        return ConnectionPoolStats(
            minsize=self._minsize,
            maxsize=self._maxsize,
            currsize=self.currsize,
            available=self.available,
            in_use=self.in_use,
            making=self._making,
            checking=self._checking,
            cleaning=self._cleaning,
            waiting=self._waiters.live,
            lends=counts.lends + sum(record.lends for record in self._records.values()),
            waits=counts.waits,
            timeouts=counts.timeouts,
            refused=counts.refused,
            made=counts.made,
            failed=counts.failed,
            sick=counts.sick,
            retired=counts.retired,
        )

    @property
    def available(self) -> int:
        """How many connections lie idle."""
        return len(self._idle)

    @property
    def currsize(self) -> int:
        """How many connections the pool has: idle, lent, being checked; not those being made or cleaned."""
        return len(self._records) - self._cleaning

    @property
    def cursize(self) -> int:
        """The same as `currsize`."""
        return self.currsize

    @property
    def maxlife(self) -> float:
        """Seconds that a connection lives at most."""
        return self._options.maxlife

    @property
    def maxsize(self) -> int:
        """The most connections at once."""
        return self._maxsize

    @property
    def minsize(self) -> int:
        """The least connections that are kept."""
        return self._minsize

    def __repr__(self) -> str:
        state = "open" if self._open else "stopped" if self._ever_started else "not started"
        return f"<ConnectionPool {state}: {self._told()}>"
