"""Who waits gets a connection in the order of arrival, and nobody else gets it before."""

import asyncio
from datetime import timedelta

import pytest

from cachify_tasks.pools import PoolFull, PoolTimeout

from .kit import full, turns, waiting


async def test_five_in_line_are_served_in_their_order(world):
    got: list[int] = []

    async def take(number):
        async with pool.connection():
            got.append(number)

    async with world.pool(maxsize=1) as pool:
        conn = await pool.acquire()
        tasks = [asyncio.create_task(take(number)) for number in range(5)]
        await turns()

        await pool.release(conn)
        await asyncio.gather(*tasks)

    assert got == [0, 1, 2, 3, 4]


async def test_a_newcomer_does_not_overtake_one_who_waits(world):
    async with world.pool(maxsize=1) as pool:
        conn = await pool.acquire()
        first = asyncio.create_task(pool.acquire())
        await turns()

        await pool.release(conn)
        second = asyncio.create_task(pool.acquire())
        again = asyncio.create_task(pool.acquire())
        await turns()

        assert first.done()
        assert not second.done()
        for waiter in (first, second, again):
            await pool.release(await waiter)


async def test_the_releaser_itself_goes_behind_those_who_wait(world):
    async with world.pool(maxsize=1) as pool:
        conn = await pool.acquire()
        waiter = asyncio.create_task(pool.acquire())
        await turns()

        await pool.release(conn)
        mine = asyncio.create_task(pool.acquire())
        await turns()

        assert waiter.done()
        assert not mine.done()
        await pool.release(await waiter)
        await pool.release(await mine)


async def test_one_freed_place_wakes_one_waiter(world):
    async with world.pool(maxsize=1) as pool:
        conn = await pool.acquire()
        tasks = [asyncio.create_task(pool.acquire()) for _ in range(3)]
        await turns()

        await pool.release(conn)
        await turns()

        assert [task.done() for task in tasks] == [True, False, False]
        for task in tasks:
            await pool.release(await task)


async def test_a_connection_handed_to_one_who_is_cancelled_goes_to_the_next(world):
    async with world.pool(maxsize=1) as pool:
        conn = await pool.acquire()
        first, second = (asyncio.create_task(pool.acquire()) for _ in range(2))
        await turns()

        await pool.release(conn)
        first.cancel()

        assert await second is conn
        assert first.cancelled()
        await pool.release(conn)


async def test_who_is_cancelled_in_line_is_passed_over(world):
    async with world.pool(maxsize=1) as pool:
        conn = await pool.acquire()
        first, second = (asyncio.create_task(pool.acquire()) for _ in range(2))
        await turns()
        first.cancel()
        await turns()
        assert pool.stats().waiting == 1

        await pool.release(conn)

        assert await second is conn
        await pool.release(conn)


async def test_a_connection_that_is_made_for_one_who_is_cancelled_is_kept_for_the_next(world):
    world.gate = asyncio.Event()
    async with world.pool(minsize=0, maxsize=1) as pool:
        first = asyncio.create_task(pool.acquire())
        await turns()
        first.cancel()
        await turns()
        assert (pool.currsize, pool.stats().making) == (0, 1)
        second = asyncio.create_task(pool.acquire())

        world.gate.set()

        assert await second is world.made[0]
        assert world.calls == 1
        await pool.release(world.made[0])


async def test_a_waiter_whose_coroutine_is_closed_loses_no_connection(world):
    async with world.pool(maxsize=1) as pool:
        conn = await pool.acquire()
        left = pool.acquire()
        left.send(None)

        left.close()
        await pool.release(conn)

        assert pool.available == 1
        assert pool.stats().waiting == 0


async def test_a_place_is_reserved_before_a_connection_is_made(world):
    world.gate = asyncio.Event()
    async with world.pool(minsize=0, maxsize=2) as pool:
        tasks = [asyncio.create_task(pool.acquire()) for _ in range(5)]
        await turns()

        assert (pool.stats().making, pool.currsize) == (2, 0)
        world.gate.set()
        for task in tasks:
            await pool.release(await task)

    assert world.most == 2


async def test_the_factory_of_one_does_not_hold_up_the_others(world):
    world.gate = asyncio.Event()
    async with world.pool(minsize=0, maxsize=2) as pool:
        first = asyncio.create_task(pool.acquire())
        await turns()
        gate, world.gate = world.gate, None
        second = asyncio.create_task(pool.acquire())
        await turns()

        assert [first.done(), second.done()] == [True, False]  # the second one's connection came first
        gate.set()
        for waiter in (first, second):
            await pool.release(await waiter)


@pytest.mark.parametrize("timeout", [0, 0.01, timedelta(milliseconds=10)])
@pytest.mark.parametrize("where", ["pool", "acquire", "connection"])
async def test_who_waits_too_long_gets_an_error_that_says_why(world, timeout, where):
    async with full(world.pool(maxsize=2, **({"timeout": timeout} if where == "pool" else {}))) as lent:
        pool = world.pools[-1]
        options = {} if where == "pool" else {"_timeout_": timeout}

        block = pool.connection(**options)
        acquire = block.__aenter__ if where == "connection" else lambda: pool.acquire(**options)
        with pytest.raises(PoolTimeout, match="2 of 2 connections are lent"):
            await acquire()

        assert isinstance(PoolTimeout(), TimeoutError)
        assert (pool.stats().timeouts, pool.stats().waiting, len(lent)) == (1, 0, 2)


async def test_the_timeout_of_an_acquire_goes_before_that_of_the_pool(world):
    async with world.pool(maxsize=1, timeout=0) as pool:
        conn = await pool.acquire()
        waiter = asyncio.create_task(pool.acquire(_timeout_=None))
        await turns()

        await pool.release(conn)

        assert await waiter is conn
        await pool.release(conn)


@pytest.mark.parametrize("most", [0, 2])
async def test_so_many_may_wait_and_no_more(world, most):
    async with world.pool(maxsize=1, max_waiting=most) as pool:
        conn = await pool.acquire()
        tasks = [asyncio.create_task(pool.acquire()) for _ in range(most)]
        await turns()

        with pytest.raises(PoolFull, match=f"max_waiting is {most}"):
            await pool.acquire()

        assert pool.stats().refused == 1
        await pool.release(conn)
        for task in tasks:
            await pool.release(await task)


async def test_who_gets_a_new_connection_does_not_count_as_waiting_for_another_s(world):
    async with world.pool(minsize=0, maxsize=3, max_waiting=0) as pool:
        lent = await asyncio.gather(*(pool.acquire() for _ in range(3)))

        assert len({conn.number for conn in lent}) == 3
        for conn in lent:
            await pool.release(conn)


@pytest.mark.parametrize(("lifo", "expected"), [(True, [2, 2]), (False, [0, 1])])
async def test_the_connection_that_is_lent_first(world, lifo, expected):
    async with world.pool(minsize=3, lifo=lifo) as pool:
        for number in range(2):
            conn = await pool.acquire()
            await pool.release(conn)
            assert conn.number == expected[number]


async def test_the_block_of_connection_releases_whatever_happens_in_it(world):
    async with world.pool() as pool:
        with pytest.raises(ZeroDivisionError):
            async with pool.connection():
                raise ZeroDivisionError

        assert (pool.available, pool.in_use) == (1, 0)


async def test_stats_tell_what_has_been_done(world):
    async with world.pool(maxsize=2) as pool:
        for _ in range(3):
            async with pool.connection(), pool.connection():
                pass
        stats = pool.stats()

    assert (stats.lends, stats.made, stats.failed, stats.retired) == (6, 2, 0, 0)
    assert pool.stats().lends == 6
    assert pool.stats().retired == 2
    assert (stats.waits, stats.minsize, stats.maxsize) == (1, 1, 2)


async def test_a_place_that_a_retired_connection_frees_goes_to_who_waits(world):
    async with world.pool(maxsize=1) as pool:
        conn = await pool.acquire()
        waiter = asyncio.create_task(pool.acquire())
        draining = asyncio.create_task(pool.drain())
        await turns()

        await pool.release(conn)

        assert await waiter is world.made[1]
        await draining
        await pool.release(world.made[1])


async def test_many_waiters_that_leave_are_forgotten(world):
    async with full(world.pool(maxsize=1)):
        pool = world.pools[-1]
        keeps = asyncio.create_task(pool.acquire())
        await turns()
        tasks = [asyncio.create_task(pool.acquire()) for _ in range(500)]
        await turns()

        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        assert waiting(pool, 1)()
        assert len(pool._queue) < 100
        keeps.cancel()
        await turns()
