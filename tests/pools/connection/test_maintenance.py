"""What happens whether somebody acquires or not: lives, idle times, checks, limits, reports."""

import asyncio
import logging

import pytest

from cachify_tasks.pools import ConnectionPool, PoolShutDown, PoolTimeout
from tests.support.waiting import await_until

from .kit import full, turns


async def test_an_idle_connection_whose_life_ends_is_replaced(world):
    async with world.pool(minsize=2, maxlife=0.05) as pool:
        await await_until(lambda: all(conn.closed for conn in world.made[:2]) and pool.available == 2)

        assert world.most <= pool.maxsize


async def test_lives_differ_by_the_jitter_and_are_never_longer_than_said(world):
    async with world.pool(minsize=10, maxlife=100, jitter=0.5) as pool:
        lives = [record.until - pool._connections.now() for record in pool._connections.records.values()]

        assert all(49 < life <= 100 for life in lives)
        assert len(set(lives)) > 1


async def test_connections_beyond_minsize_that_nobody_uses_are_given_up(world):
    async with world.pool(minsize=1, maxsize=5, max_idle=0.05) as pool:
        lent = [await pool.acquire() for _ in range(5)]
        for conn in lent:
            await pool.release(conn)

        await await_until(lambda: pool.currsize == 1)
        await pool._maintenance.round()

        assert pool.currsize == 1


async def test_a_connection_in_use_is_not_idle(world):
    async with world.pool(minsize=0, max_idle=0.04) as pool:
        conn = await pool.acquire()
        rounds = pool._connections.now() + 0.15

        while pool._connections.now() < rounds:
            await pool.release(conn)
            assert await pool.acquire() is conn
            await turns(1)

        await pool.release(conn)


async def test_idle_connections_are_shown_to_the_healthchecker(world):
    async with world.pool(minsize=2, healthchecker=world.acheck, keepalive=0.02) as pool:
        world.made[0].healthy = False

        await await_until(lambda: world.made[0].closed and pool.available == 2)

        assert {0, 1, 2} <= set(world.checked) | {2}


async def test_a_connection_that_is_being_checked_is_not_lent(world):
    gate, checking = asyncio.Event(), []

    async def check(conn):
        checking.append(conn)
        await gate.wait()
        checking.remove(conn)
        return True

    async with world.pool(minsize=1, maxsize=2, healthchecker=check, keepalive=0.01) as pool:
        await await_until(lambda: checking)
        assert (pool.available, pool.in_use, pool.currsize, pool.stats().checking) == (0, 0, 1, 1)
        waiter = asyncio.create_task(pool.acquire())
        await turns()
        assert not waiter.done()

        gate.set()

        conn = await waiter
        assert conn not in [one for one in checking if one is conn]
        await pool.release(conn)


async def test_minsize_is_tried_again_and_again_while_the_factory_fails(world, caplog):
    def waits():
        return [record.args[0] for record in caplog.records if "trying again" in record.message]

    async with world.pool(healthchecker=world.acheck, keepalive=0.01, backoff=0.01) as pool:
        world.error = ConnectionError("down")
        world.made[0].healthy = False
        await await_until(lambda: len(waits()) >= 3)
        assert pool.currsize == 0
        assert waits()[2] > waits()[0]

        world.error = None
        await pool.wait(5)

        assert pool.available == 1


async def test_an_acquire_is_not_held_up_by_the_pause_after_a_failure(world):
    async with world.pool(healthchecker=world.acheck, keepalive=0.01, backoff=50) as pool:
        world.error = ConnectionError("down")
        world.made[0].healthy = False
        await await_until(lambda: pool.stats().failed)
        await turns()
        assert pool.stats().failed == 1
        with pytest.raises(ConnectionError):
            await pool.acquire()
        world.error = None

        async with pool.connection():
            assert pool._connections._backoff is None


async def test_a_connection_that_is_lent_for_long_is_reported_with_the_stack_of_its_acquire(world, caplog):
    async def forgets_it():
        return await pool.acquire()

    async with world.pool(leak_after=0.02, maxsize=1) as pool:
        conn = await forgets_it()
        await await_until(lambda: caplog.records)

        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "forgets_it" in record.message
        assert "test_maintenance.py" in record.message
        assert "cachify_tasks/pools" not in record.message
        (loan,) = pool.leaks()
        assert loan.conn is conn
        assert loan.seconds >= 0.02
        assert loan.stack[-1].name == "forgets_it"
        await pool.release(conn)
        assert pool.leaks() == []


async def test_a_connection_that_was_handed_over_is_reported_with_the_stack_of_who_has_it(world):
    async def second():
        return await pool.acquire()

    async with world.pool(leak_after=0.001, maxsize=1) as pool:
        conn = await pool.acquire()
        waiter = asyncio.create_task(second())
        await turns()
        await pool.release(conn)
        await waiter

        await await_until(pool.leaks)

        assert [frame.name for frame in pool.leaks()[0].stack][-1] == "second"
        await pool.release(conn)


async def test_without_the_option_no_stack_is_kept(world):
    async with world.pool() as pool, pool.connection():
        assert pool.leaks() == []
        assert pool._connections.records[id(world.made[0])].stack is None


async def test_a_raised_limit_serves_those_who_wait(world):
    async with full(world.pool(maxsize=1)):
        pool = world.pools[0]
        waiters = [asyncio.create_task(pool.acquire()) for _ in range(3)]
        await turns()

        await pool.resize(maxsize=3)
        await await_until(lambda: pool.in_use == 3)

        assert [waiter.done() for waiter in waiters] == [True, True, False]
        for waiter in waiters:
            await pool.release(await waiter)


async def test_a_lowered_limit_gives_up_idle_connections_at_once_and_lent_ones_when_they_come_back(world):
    async with world.pool(maxsize=4) as pool:
        lent = [await pool.acquire() for _ in range(4)]
        await pool.release(lent[0])

        await pool.resize(maxsize=2)

        assert lent[0].closed
        assert (pool.maxsize, pool.currsize) == (2, 3)
        await pool.release(lent[1])
        assert lent[1].closed
        await pool.release(lent[2])
        await pool.release(lent[3])
        assert (pool.currsize, pool.available) == (2, 2)
        assert await pool.acquire() is lent[3]
        await pool.release(lent[3])


async def test_who_waits_at_a_lowered_limit_gets_what_is_left(world):
    async with world.pool(maxsize=2) as pool:
        one, two = await pool.acquire(), await pool.acquire()
        waiter = asyncio.create_task(pool.acquire())
        await pool.resize(maxsize=1)

        await pool.release(one)
        await turns()
        assert not waiter.done()
        await pool.release(two)

        assert await waiter is two
        await pool.release(two)


async def test_a_limit_lowered_below_what_is_being_made_is_kept(world):
    world.gate = asyncio.Event()
    async with world.pool(minsize=0, maxsize=3) as pool:
        waiters = [asyncio.create_task(pool.acquire()) for _ in range(3)]
        await turns()
        await pool.resize(maxsize=1)
        assert pool.stats().making == 3
        world.errors.append(ConnectionError("down"))

        world.gate.set()

        answers = []
        for waiter in waiters:
            try:
                conn = await waiter
            except ConnectionError:
                answers.append("error")
            else:
                answers.append("conn")
                assert pool.currsize == 1
                await pool.release(conn)
        assert sorted(answers) == ["conn", "conn", "error"]
        assert (pool.available, pool.currsize) == (1, 1)


async def test_a_raised_minimum_is_filled(world):
    async with world.pool() as pool:
        await pool.resize(minsize=4)
        await pool.wait(5)

        assert (pool.minsize, pool.available) == (4, 4)


@pytest.mark.parametrize("limits", [{"maxsize": 0}, {"minsize": 6}, {"minsize": 3, "maxsize": 2}, {"minsize": -1}])
async def test_limits_that_cannot_be_are_refused_and_change_nothing(world, limits):
    async with world.pool(maxsize=5) as pool:
        with pytest.raises(ValueError, match=r"minsize|maxsize"):
            await pool.resize(**limits)

        assert (pool.minsize, pool.maxsize) == (1, 5)


async def test_drain_replaces_every_connection_and_waits_for_those_that_are_lent(world):
    async with world.pool(minsize=3, maxsize=3) as pool:
        lent = await pool.acquire()
        draining = asyncio.create_task(pool.drain())
        await turns()
        assert [conn.closed for conn in world.made[:3]] == [int(conn is not lent) for conn in world.made[:3]]
        async with pool.connection() as conn:
            assert conn.number >= 3
        assert not draining.done()

        await pool.release(lent)
        await draining

        assert not [conn for conn in world.made[:3] if not conn.closed]
        assert world.most == 3


async def test_drain_and_wait_give_up_in_time(world):
    async with world.pool(healthchecker=world.acheck, backoff=50, maxsize=2) as pool:
        conn = await pool.acquire()
        with pytest.raises(PoolTimeout, match="1 connections are not back yet"):
            await pool.drain(0.01)
        world.error = ConnectionError("down")
        await pool.release(conn)
        assert conn.closed

        with pytest.raises(PoolTimeout, match="0 of minsize 1 connections"):
            await pool.wait(0.01)


@pytest.mark.parametrize("name", ["drain", "wait"])
async def test_drain_and_wait_end_with_the_pool(world, name):
    pool = world.pool(healthchecker=world.acheck, backoff=50)
    await pool.start()
    conn = await pool.acquire()
    if name == "wait":
        world.error, conn.healthy = ConnectionError("down"), False
        await pool.release(conn)
    waiting = asyncio.create_task(getattr(pool, name)())
    await turns()

    await pool.stop()

    with pytest.raises(PoolShutDown):
        await waiting
    if name == "drain":
        await pool.release(conn)


async def test_maintenance_ends_with_the_pool_and_leaves_no_timer(world):
    async with world.pool(maxlife=50, interval=0.01) as pool:
        await pool.acquire()
    loop = asyncio.get_running_loop()

    assert pool._maintaining.done()
    assert not [timer for timer in vars(loop)["_scheduled"] if not timer.cancelled() and "Stock" in repr(timer)]
    await pool.release(world.made[0])


def test_a_pool_that_nobody_stopped_does_not_hold_up_the_loop_s_end():
    pool = ConnectionPool(object, healthchecker=lambda conn: True)

    asyncio.run(pool.start())

    assert pool._maintaining is not None
    assert pool._maintaining.done()
