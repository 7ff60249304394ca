"""Real connections: SQLite, and PostgreSQL where CACHIFY_TEST_POSTGRES_URL names one."""

import asyncio
import os
import sqlite3
import threading

import pytest

from cachify_tasks.pools import ConnectionPool
from tests.support.servers import given_server
from tests.support.waiting import await_until

from .kit import turns

TASKS = 40


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as conn:
        conn.execute("pragma journal_mode = wal")
        conn.execute("create table account (id integer primary key, balance integer)")
        conn.executemany("insert into account values (?, ?)", [(n, 100) for n in range(10)])
    conn.close()
    return path


def alive(conn):
    try:
        return conn.execute("select 1").fetchone() == (1,)
    except sqlite3.Error:
        return False


async def test_threads_and_coroutines_share_a_database_in_sqlite(database):
    opened, lock = [], threading.Lock()

    def connect():
        conn = sqlite3.connect(database, timeout=30, check_same_thread=False, isolation_level=None)
        with lock:
            opened.append(conn)
        return conn

    def move(conn, source, target):
        conn.execute("begin immediate")
        conn.execute("update account set balance = balance - 1 where id = ?", (source,))
        conn.execute("update account set balance = balance + 1 where id = ?", (target,))
        conn.execute("commit")

    async def task(number):
        async with pool.connection() as conn:
            await asyncio.to_thread(move, conn, number % 10, number * 7 % 10)

    async with ConnectionPool(connect, 4, healthchecker=alive, cleaner=sqlite3.Connection.close) as pool:
        await asyncio.gather(*(task(number) for number in range(TASKS)))
        async with pool.connection() as conn:
            (total,) = conn.execute("select sum(balance) from account").fetchone()

    assert total == 1000
    assert len(opened) <= 4
    for conn in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            conn.execute("select 1")


async def test_a_connection_that_sqlite_has_closed_is_replaced(database):
    pool = ConnectionPool(
        lambda: sqlite3.connect(database, check_same_thread=False),
        healthchecker=alive,
        cleaner=sqlite3.Connection.close,
    )
    async with pool:
        async with pool.connection() as conn:
            conn.close()

        async with pool.connection() as other:
            assert other is not conn
            assert other.execute("select count(*) from account").fetchone() == (10,)


@pytest.fixture
def postgres_url():
    """URL of somebody else's PostgreSQL: use odd names, and drop them."""
    pytest.importorskip("psycopg")
    return given_server("CACHIFY_TEST_POSTGRES_URL")


class Postgres:
    """Connections to PostgreSQL that can be told from others by their application's name."""

    def __init__(self, url):
        self.url, self.name = url, f"cachify-pool-{os.getpid()}-{os.urandom(4).hex()}"

    async def connect(self):
        from psycopg import AsyncConnection

        return await AsyncConnection.connect(self.url, autocommit=True, application_name=self.name)

    async def alive(self, conn):
        from psycopg import OperationalError

        try:
            await conn.execute("select 1")
        except OperationalError:
            return False
        return True

    async def close(self, conn):
        await conn.close()

    def pool(self, **options):
        return ConnectionPool(self.connect, healthchecker=self.alive, cleaner=self.close, **options)

    async def sessions(self, what="count(*)"):
        from psycopg import AsyncConnection

        async with await AsyncConnection.connect(self.url, autocommit=True) as conn:
            found = await conn.execute(
                f"select {what} from pg_stat_activity where application_name = %s",
                (self.name,),
            )
            return (await found.fetchone() or (None,))[0]

    async def ended(self):
        """The server notices the end of a session a moment later."""
        async with asyncio.timeout(60):
            while await self.sessions():
                pass


async def test_postgres_sees_no_more_sessions_than_the_limit_and_none_in_the_end(postgres_url):
    postgres = Postgres(postgres_url)

    async def task(pool):
        async with pool.connection() as conn:
            found = await conn.execute("select pg_backend_pid()")
            return (await found.fetchone() or (None,))[0]

    async with postgres.pool(maxsize=3) as pool:
        pids = await asyncio.gather(*(task(pool) for _ in range(TASKS)))
        assert await postgres.sessions() == len(set(pids)) <= 3

    await postgres.ended()


async def test_sessions_that_postgres_has_ended_are_replaced(postgres_url):
    postgres = Postgres(postgres_url)

    async with postgres.pool(minsize=2, maxsize=2, keepalive=0.05) as pool:
        await postgres.sessions("bool_and(pg_terminate_backend(pid))")
        await await_until(lambda: pool.stats().sick == 2 and pool.available == 2)

        async with pool.connection() as conn:
            assert (await (await conn.execute("select 1")).fetchone()) == (1,)

    await postgres.ended()


async def test_acquires_of_a_postgres_that_are_cut_off_leave_no_session(postgres_url):
    postgres = Postgres(postgres_url)

    async with postgres.pool(minsize=0, maxsize=4) as pool:
        tasks = [asyncio.create_task(pool.acquire()) for _ in range(8)]
        await turns(2)
        assert pool.stats().making == 4
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await await_until(lambda: pool.available == 4)

    await postgres.ended()
