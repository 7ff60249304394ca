"""ConnectionPool: coroutines share a few connections to SQLite, or to PostgreSQL.

Run it: `python examples/connection_pool_sqlite.py`. With a URL as an argument, or in CACHIFY_TEST_POSTGRES_URL, it does
the same with that PostgreSQL (needs psycopg). What to see:

- twenty coroutines share three connections; sqlite3's calls run in threads, and the event loop's ticker goes on;
- a connection that breaks is replaced and not lent again;
- an acquire that waits too long raises an error that says why;
- at the end idle connections are closed, and a lent one is closed when it comes back.
"""

import asyncio
import os
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

from cachify_tasks.pools import ConnectionPool, PoolTimeout


def is_alive(conn: sqlite3.Connection) -> bool:
    try:
        return conn.execute("select 1").fetchone() == (1,)
    except sqlite3.Error:
        return False


def order(conn: sqlite3.Connection, number: int) -> None:
    with conn:  # a transaction
        conn.execute("insert into orders values (?, ?)", (number, f"order {number}"))


async def ticker(ticks: list[int]) -> None:
    while True:
        ticks[0] += 1
        await asyncio.sleep(0.001)


async def with_sqlite(path: Path) -> None:
    def connect() -> sqlite3.Connection:  # runs in a thread, and so do the other two
        conn = sqlite3.connect(path, timeout=30, check_same_thread=False)
        conn.execute("create table if not exists orders (number integer primary key, text)")
        return conn

    async def take_order(number: int) -> None:
        async with pool.connection() as conn:
            await asyncio.to_thread(order, conn, number)

    ticks = [0]
    ticking = asyncio.create_task(ticker(ticks))
    async with ConnectionPool(connect, 3, healthchecker=is_alive, cleaner=sqlite3.Connection.close) as pool:
        await asyncio.gather(*(take_order(number) for number in range(20)))
        async with pool.connection() as conn:
            (count,) = conn.execute("select count(*) from orders").fetchone()
        print(f"{count} orders over {pool.stats().made} connections")

        async with pool.connection() as conn:
            conn.close()  # it breaks
        async with pool.connection() as other:
            print("a broken one is lent again:", other is conn)

        lent = [await pool.acquire() for _ in range(3)]
        try:
            await pool.acquire(_timeout_=0.05)
        except PoolTimeout as late:
            print(late)
        for conn in lent[1:]:
            await pool.release(conn)
    print("open after the end:", sum(is_alive(conn) for conn in lent))
    await pool.release(lent[0])
    print("open when it is back:", sum(is_alive(conn) for conn in lent))
    ticking.cancel()
    print("the ticker went on:", ticks[0] > 1)


async def with_postgres(url: str) -> None:
    from psycopg import AsyncConnection

    async def close(conn: AsyncConnection[Any]) -> None:
        await conn.close()

    async def is_open(conn: AsyncConnection[Any]) -> bool:
        return not conn.closed

    async def process(pool: ConnectionPool[AsyncConnection[Any], Any]) -> int:
        async with pool.connection() as conn:
            row = await (await conn.execute("select pg_backend_pid(), pg_sleep(0.01)")).fetchone()
            await conn.rollback()
            return int(row[0]) if row else 0

    pool = ConnectionPool(lambda: AsyncConnection.connect(url), 3, healthchecker=is_open, cleaner=close)
    async with pool:
        processes = await asyncio.gather(*(process(pool) for _ in range(20)))
    print(f"PostgreSQL: 20 queries in {len(set(processes))} sessions")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        await with_sqlite(Path(folder) / "orders.db")
    url = sys.argv[1] if len(sys.argv) > 1 else os.getenv("CACHIFY_TEST_POSTGRES_URL")
    if url:
        await with_postgres(url)


if __name__ == "__main__":
    asyncio.run(main())
