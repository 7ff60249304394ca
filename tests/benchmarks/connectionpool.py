"""ConnectionPool: an acquire and a release, against a bare asyncio.Queue and against pools of other packages.

"alone": one task, a connection is always idle. "100 on 10": a hundred tasks in ten places, each holding its connection
for one turn of the loop. psycopg_pool needs PostgreSQL (CACHIFY_TEST_POSTGRES_URL); then both lend its connections.
SQLAlchemy's pool is that of its async engine, with connections that do nothing and no reset; redis-py's has real ones.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import redis.asyncio
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import greenlet_spawn

from cachify_tasks.pools import ConnectionPool

from .table import Table, paired

SIZE = 10
ALONE = 20_000
TASKS = 100
ROUNDS = 40
SLOW = 20  # so many times fewer rounds against what is slow


class Way(NamedTuple):
    """How to take a connection and to give it back."""

    take: Callable[[], Awaitable[Any]]
    give: Callable[[Any], Awaitable[Any]]


async def alone(way: Way, rounds: int) -> float:
    """Microseconds for an acquire and a release."""
    take, give = way
    began = time.perf_counter()
    for _ in range(rounds):
        await give(await take())
    return (time.perf_counter() - began) / rounds * 1e6


async def crowd(way: Way, rounds: int, tasks: int = TASKS) -> float:
    """The same, of tasks that wait for each other."""
    take, give = way

    async def one() -> None:
        for _ in range(rounds):
            conn = await take()
            await asyncio.sleep(0)
            await give(conn)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(tasks)))
    return (time.perf_counter() - began) / rounds / tasks * 1e6


async def queue_alone(queue: asyncio.Queue[object], rounds: int) -> float:
    """As a program uses a queue: what is given back has a place, so that is not awaited."""
    began = time.perf_counter()
    for _ in range(rounds):
        conn = await queue.get()
        queue.put_nowait(conn)
    return (time.perf_counter() - began) / rounds * 1e6


async def queue_crowd(queue: asyncio.Queue[object], rounds: int, tasks: int = TASKS) -> float:
    async def one() -> None:
        for _ in range(rounds):
            conn = await queue.get()
            await asyncio.sleep(0)
            queue.put_nowait(conn)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(tasks)))
    return (time.perf_counter() - began) / rounds / tasks * 1e6


class Connection:
    """Does nothing."""

    def close(self) -> None: ...

    def rollback(self) -> None: ...


async def made(factory: Callable[..., Any], size: int = SIZE) -> ConnectionPool[Any, Any]:
    pool = ConnectionPool(factory, maxsize=size, minsize=size)
    await pool.start()
    return pool


def bench_queue(table: Table, loop: asyncio.AbstractEventLoop) -> None:
    pool = loop.run_until_complete(made(Connection))
    way, queue = Way(pool.acquire, pool.release), asyncio.Queue[object]()
    for _ in range(SIZE):
        queue.put_nowait(Connection())
    pairs: list[tuple[str, Callable[[], Awaitable[float]], Callable[[], Awaitable[float]]]] = [
        ("alone", lambda: alone(way, ALONE), lambda: queue_alone(queue, ALONE)),
        ("100 on 10", lambda: crowd(way, ROUNDS), lambda: queue_crowd(queue, ROUNDS)),
    ]
    for name, ours, theirs in pairs:
        table.add(
            paired(
                f"ConnectionPool / asyncio.Queue, {name}",
                lambda ours=ours: loop.run_until_complete(ours()),  # type: ignore[misc]
                lambda theirs=theirs: loop.run_until_complete(theirs()),  # type: ignore[misc]
                unit="us",
                goal=1.3,
            )
        )
    loop.run_until_complete(pool.stop())


def bench_line(table: Table, loop: asyncio.AbstractEventLoop) -> None:
    """What a hand-over costs does not depend on how many wait."""
    pool = loop.run_until_complete(made(Connection, 1))
    way = Way(pool.acquire, pool.release)
    table.add(
        paired(
            "ConnectionPool, a hand-over with 500 that wait / with 50",
            lambda: loop.run_until_complete(crowd(way, 20, 501)),
            lambda: loop.run_until_complete(crowd(way, 200, 51)),
            unit="us",
            goal=1.3,
        )
    )
    loop.run_until_complete(pool.stop())


def bench_peer(
    table: Table, loop: asyncio.AbstractEventLoop, name: str, theirs: Way, ours: Way, goal: float | None = None
) -> None:
    pairs: list[tuple[str, Callable[[Way], Awaitable[float]]]] = [
        ("alone", lambda way: alone(way, ALONE // SLOW)),
        ("100 on 10", lambda way: crowd(way, ROUNDS)),
    ]
    for how, measure in pairs:
        table.add(
            paired(
                f"{name} / ConnectionPool, {how}",
                lambda measure=measure: loop.run_until_complete(measure(ours)),  # type: ignore[misc]
                lambda measure=measure: loop.run_until_complete(measure(theirs)),  # type: ignore[misc]
                unit="us",
                goal=goal,
                better="high",
                upside_down=True,
            )
        )


def bench_psycopg(table: Table, loop: asyncio.AbstractEventLoop) -> None:
    url = os.getenv("CACHIFY_TEST_POSTGRES_URL")
    if not url:
        table.notes.append("psycopg_pool was not measured: set CACHIFY_TEST_POSTGRES_URL")
        return
    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

    async def opened() -> tuple[AsyncConnectionPool[Any], ConnectionPool[Any, Any]]:
        theirs: AsyncConnectionPool[Any] = AsyncConnectionPool(url, min_size=SIZE, max_size=SIZE, open=False)
        await theirs.open(wait=True)
        return theirs, await made(lambda: AsyncConnection.connect(url))

    theirs, ours = loop.run_until_complete(opened())
    bench_peer(
        table, loop, "psycopg_pool", Way(theirs.getconn, theirs.putconn), Way(ours.acquire, ours.release), goal=5
    )

    async def closed() -> None:
        await theirs.close()
        held = [await ours.acquire() for _ in range(SIZE)]
        for conn in held:
            await conn.close()
            await ours.release(conn)
        await ours.stop()

    loop.run_until_complete(closed())


def bench_others(table: Table, loop: asyncio.AbstractEventLoop, url: str) -> None:
    ours = loop.run_until_complete(made(Connection))
    way = Way(ours.acquire, ours.release)
    alchemy = AsyncAdaptedQueuePool(Connection, pool_size=SIZE, max_overflow=0, reset_on_return=None)  # type: ignore[arg-type]
    bench_peer(
        table,
        loop,
        "SQLAlchemy async QueuePool",
        Way(lambda: greenlet_spawn(alchemy.connect), lambda conn: greenlet_spawn(conn.close)),
        way,
    )
    blocking = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=SIZE)
    bench_peer(table, loop, "redis-py BlockingConnectionPool", Way(blocking.get_connection, blocking.release), way)
    loop.run_until_complete(blocking.disconnect())
    loop.run_until_complete(greenlet_spawn(alchemy.dispose))
    loop.run_until_complete(ours.stop())


def bench(table: Table, url: str) -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        bench_queue(table, loop)
        bench_line(table, loop)
        bench_psycopg(table, loop)
        bench_others(table, loop, url)
