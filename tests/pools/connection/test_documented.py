"""Each row of the documentation."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import cachify_tasks.pools
from cachify_tasks.pools import ConnectionPool
from cachify_tasks.pools.connection.maintenance import Maintenance
from tests.support.waiting import await_until

from .kit import turns


async def test_the_defaults_are_1_to_10_connections_that_live_an_hour():
    pool = ConnectionPool(object)

    assert (pool.minsize, pool.maxsize, pool.maxlife) == (1, 10, 3600.0)
    assert list(inspect.signature(ConnectionPool).parameters)[:6] == [
        "factory", "maxsize", "minsize", "maxlife", "healthchecker", "cleaner",
    ]  # fmt: skip


async def test_the_context_manager_gives_the_started_pool_and_stops_it(world):
    made = world.pool(minsize=2)

    async with made as pool:
        assert pool is made
        assert (pool.available, pool.currsize, pool.cursize, pool.in_use) == (2, 2, 2, 0)

    assert (pool.available, pool.currsize, pool.in_use) == (0, 0, 0)
    assert len(world.made) == 2


async def test_acquire_lends_and_release_takes_back(world):
    async with world.pool(minsize=1) as pool:
        conn = await pool.acquire()
        assert (pool.available, pool.currsize, pool.in_use) == (0, 1, 1)

        await pool.release(conn)

        assert (pool.available, pool.currsize, pool.in_use) == (1, 1, 0)
        assert await pool.acquire() is conn
        await pool.release(conn)


async def test_acquire_passes_its_arguments_to_the_factory_when_a_connection_is_made(world):
    async with world.pool(minsize=0, maxsize=2) as pool:
        conn = await pool.acquire("a", key="b")
        assert (conn.args, conn.kwargs) == (("a",), {"key": "b"})
        await pool.release(conn)

        again = await pool.acquire("c")

        assert again is conn
        await pool.release(conn)


async def test_acquire_makes_no_more_than_maxsize_and_then_waits(world):
    async with world.pool(maxsize=3) as pool:
        lent = [await pool.acquire() for _ in range(3)]
        waiter = asyncio.create_task(pool.acquire())
        await turns()
        assert not waiter.done()
        assert len(world.made) == 3

        await pool.release(lent[1])

        assert await waiter is lent[1]
        for conn in lent:
            await pool.release(conn)


@pytest.mark.parametrize("how", ["given", "default"])
async def test_functions_that_are_no_coroutine_functions_run_in_threads(world, how):
    names = []

    def noted(function):
        def inner(*args):
            names.append(threading.current_thread().name)
            return function(*args)

        return inner

    pool = ConnectionPool(noted(world.make), healthchecker=noted(world.check), cleaner=noted(world.close))
    with ThreadPoolExecutor(2, "mine") as executor:
        await pool.start(executor=executor if how == "given" else None)
        await pool.release(await pool.acquire())
        await pool.stop()

    assert len(names) == 4
    assert all(name.startswith("mine" if how == "given" else "ConnectionPool") for name in names)


async def test_coroutine_functions_are_awaited_in_the_loop(world):
    async with world.pool(healthchecker=world.acheck) as pool:
        before = set(threading.enumerate())

        await pool.release(await pool.acquire())

        assert set(threading.enumerate()) <= before
        assert world.checked == [0, 0]


class Connect:
    def __init__(self, world):
        self.world = world

    async def __call__(self):
        return await self.world.amake()


@pytest.mark.parametrize("kind", ["object", "lambda", "partial"])
async def test_whatever_gives_an_awaitable_is_awaited(world, kind):
    factory = {
        "object": Connect(world),
        "lambda": lambda: world.amake(*()),
        "partial": functools.partial(world.amake, 7),
    }

    async with world.pool(factory=factory[kind]) as pool, pool.connection() as conn:
        assert conn is world.made[0]


async def test_a_class_with_an_asynchronous_call_is_a_factory_like_another(world):
    async with ConnectionPool(lambda: Connect(world)) as pool, pool.connection() as conn:
        assert isinstance(conn, Connect)


async def several(pairs: list[Any]):
    for pair in pairs:
        yield pair


@pytest.mark.parametrize("kind", [list, iter, several])
async def test_start_makes_minsize_connections_with_the_arguments_of_the_generator(world, kind):
    pool = world.pool(minsize=3, maxsize=5)

    await pool.start(kind([(("a",), {}), (["b"], {"key": 1})]))

    assert sorted((conn.args, conn.kwargs) for conn in world.made) == [((), {}), (("a",), {}), (("b",), {"key": 1})]
    assert (pool.available, pool.currsize) == (3, 3)
    await pool.stop()


async def test_start_takes_no_more_out_of_the_generator_than_it_needs(world):
    pairs: Iterator[Any] = iter([((n,), {}) for n in range(5)])
    pool = world.pool(minsize=2)

    await pool.start(pairs)

    assert next(pairs) == ((2,), {})
    await pool.stop()


async def test_create_connection_is_the_caller_s_own(world):
    with ThreadPoolExecutor(1, "mine") as executor:
        pool = ConnectionPool(lambda name: (name, threading.current_thread().name), minsize=0)

        assert await pool.create_connection("x", _executor_=executor) == ("x", "mine_0")
        async with pool:
            assert (await pool.create_connection("y"))[0] == "y"
            assert pool.currsize == 0


async def test_a_connection_is_recycled_at_the_end_of_its_life(world):
    async with world.pool(minsize=1, maxlife=0.05, jitter=0) as pool:
        first = await pool.acquire()
        await pool.release(first)
        await await_until(lambda: first.closed)

        second = await pool.acquire()

        assert second is not first
        await pool.release(second)


async def test_a_lent_connection_is_recycled_when_it_comes_back_after_its_life(world):
    async with world.pool(minsize=1, maxlife=0.03) as pool:
        conn = await pool.acquire()
        await await_until(lambda: pool._connections.retiring)
        assert not conn.closed

        await pool.release(conn)

        assert conn.closed
        assert pool.currsize <= 1


async def test_an_unhealthy_connection_is_not_lent(world):
    async with world.pool(healthchecker=world.acheck) as pool:
        world.made[0].healthy = False

        conn = await pool.acquire()

        assert conn is world.made[1]
        assert world.made[0].closed
        await pool.release(conn)


async def test_an_unhealthy_connection_is_given_up_when_it_comes_back(world):
    async with world.pool(healthchecker=world.check, minsize=0) as pool:
        conn = await pool.acquire()
        conn.healthy = False

        await pool.release(conn)

        assert conn.closed
        assert (pool.currsize, pool.stats().sick) == (0, 1)


async def test_minsize_is_kept(world):
    async with world.pool(healthchecker=world.acheck, minsize=2) as pool:
        conn = await pool.acquire()
        conn.healthy = False

        await pool.release(conn)
        await pool.wait(5)

        assert pool.currsize == 2
        assert len(world.made) == 3


async def test_release_passes_its_arguments_to_the_factory_and_to_a_cleaner_that_takes_them(world):
    told = []

    async def cleaner(conn, *args, **kwargs):
        told.append((args, kwargs))
        await world.aclose(conn)

    async with world.pool(healthchecker=world.acheck, cleaner=cleaner) as pool:
        conn = await pool.acquire()
        conn.healthy = False

        await pool.release(conn, "why", key=1)
        await pool.wait(5)

        assert told == [(("why",), {"key": 1})]
        assert (world.made[1].args, world.made[1].kwargs) == (("why",), {"key": 1})


async def test_a_cleaner_that_takes_no_more_than_the_connection_gets_no_more(world):
    async with world.pool(healthchecker=world.acheck) as pool:
        conn = await pool.acquire()
        conn.healthy = False

        await pool.release(conn, "why")

        assert conn.closed


async def test_what_release_gives_is_for_the_connection_of_who_waits(world):
    async with world.pool(healthchecker=world.acheck, maxsize=1) as pool:
        conn = await pool.acquire()
        waiter = asyncio.create_task(pool.acquire("waiter's"))
        await turns()
        conn.healthy = False

        await pool.release(conn, "releaser's")

        assert (await waiter).args == ("releaser's",)
        await pool.release(world.made[1])


async def test_a_connection_of_minsize_is_replaced_by_one_that_is_made_alike(world):
    pool = world.pool(healthchecker=world.acheck, minsize=1)
    await pool.start([(("here",), {})])
    conn = await pool.acquire()
    conn.healthy = False

    await pool.release(conn)
    await pool.wait(5)

    assert world.made[1].args == ("here",)
    await pool.stop()


async def test_stop_cleans_what_is_idle_at_once_and_what_is_lent_when_it_comes_back(world):
    pool = world.pool(minsize=2)
    await pool.start()
    lent = await pool.acquire()

    await pool.stop()

    assert [conn.closed for conn in world.made] == [int(conn is not lent) for conn in world.made]
    assert (pool.available, pool.currsize, pool.in_use) == (0, 1, 1)
    await pool.release(lent)
    assert (lent.closed, pool.currsize, pool.in_use) == (1, 0, 0)


async def test_hooks_of_the_documentation_are_there(world):
    pool = world.pool(healthchecker=world.check)

    assert inspect.iscoroutinefunction(Maintenance.run)
    assert pool._connections._is_healthy(world.make()) is True
    world.close(world.made[0])


def test_the_module_loads_its_pools_when_they_are_asked_for():
    assert "ConnectionPool" in dir(cachify_tasks.pools)
    with pytest.raises(AttributeError, match="nonsense"):
        cachify_tasks.pools.nonsense  # noqa: B018


async def test_the_pool_s_own_threads_end_with_it_and_lent_connections_are_cleaned_all_the_same(world):
    pool = ConnectionPool(world.make, minsize=2, cleaner=world.close)
    await pool.start()
    lent = await pool.acquire()
    assert any(thread.name.startswith("ConnectionPool") for thread in threading.enumerate())

    await pool.stop()

    assert not any(thread.name.startswith("ConnectionPool") for thread in threading.enumerate())
    await pool.release(lent)
    await await_until(lambda: lent.closed)
