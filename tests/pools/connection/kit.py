"""Connections that know whether they are open, and a look at what an event loop still has."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

from cachify_tasks.pools import ConnectionPool


class Conn:
    """Equal to every other, and not hashable: a pool must know it by its identity."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.number, self.args, self.kwargs = number, args, kwargs
        self.healthy = True
        self.closed = 0
        self.closed_with: tuple[Any, ...] = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Conn {self.number}>"


class World:
    """Makes connections, and remembers them.

    Attributes:
        gate: while it is set to an Event that is not set, async functions wait for it.
        error: raised by the factory, while it is not None.
        errors: each is raised by it once.
        most: the most that were open at once.
        pools: those that `pool` has made.
    """

    def __init__(self) -> None:
        self.made: list[Conn] = []
        self.pools: list[ConnectionPool[Any, Any]] = []
        self.gate: asyncio.Event | None = None
        self.error: BaseException | None = None
        self.errors: list[Exception] = []
        self.checked: list[int] = []
        self.calls = self.most = 0

    @property
    def open(self) -> list[Conn]:
        return [conn for conn in self.made if not conn.closed]

    def make(self, *args: Any, **kwargs: Any) -> Conn:
        self.calls += 1
        if self.error is not None:
            raise self.error
        if self.errors:
            raise self.errors.pop()
        conn = Conn(len(self.made), args, kwargs)
        self.made.append(conn)
        self.most = max(self.most, len(self.open))
        return conn

    async def amake(self, *args: Any, **kwargs: Any) -> Conn:
        if self.gate is not None:
            await self.gate.wait()
        else:
            await asyncio.sleep(0)
        return self.make(*args, **kwargs)

    def close(self, conn: Conn) -> None:
        conn.closed += 1

    async def aclose(self, conn: Conn) -> None:
        await asyncio.sleep(0)
        conn.closed += 1

    def check(self, conn: Conn) -> bool:
        self.checked.append(conn.number)
        return conn.healthy

    async def acheck(self, conn: Conn) -> bool:
        await asyncio.sleep(0)
        return self.check(conn)

    def pool(self, **options: Any) -> ConnectionPool[Any, Any]:
        """Its factory and cleaner are coroutine functions, if nothing else is said."""
        self.pools.append(ConnectionPool(**{"factory": self.amake, "cleaner": self.aclose, **options}))
        return self.pools[-1]


@asynccontextmanager
async def full(pool: ConnectionPool[Any, Any]) -> Any:
    """The pool started, with all its connections lent; they are released in the end."""
    async with pool:
        lent = [await pool.acquire(_timeout_=None) for _ in range(pool.maxsize)]
        yield lent
        for conn in lent:
            await pool.release(conn)


async def turns(number: int = 12) -> None:
    """Let the event loop go round."""
    for _ in range(number):
        await asyncio.sleep(0)


def waiting(pool: ConnectionPool[Any, Any], number: int) -> Callable[[], bool]:
    return lambda: pool.stats().waiting == number


def pending(loop: asyncio.AbstractEventLoop) -> list[Any]:
    """Futures of this loop that nobody has completed, and tasks other than the running one."""
    mine = asyncio.current_task()
    gc.collect()
    futures = [
        thing
        for thing in gc.get_objects()
        if type(thing) in {asyncio.Future, asyncio.Task} and thing is not mine and thing.get_loop() is loop
    ]
    return [future for future in futures if not future.done()]
