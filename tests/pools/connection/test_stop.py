"""Start and stop, at every moment."""

import asyncio
import threading

import pytest

from cachify_tasks.pools import ConnectionPool, PoolError, PoolShutDown
from cachify_tasks.pools.advanced.scheduler import Scheduler
from tests.support.waiting import await_until

from .kit import turns


@pytest.fixture
def last_step(monkeypatch):
    """No thread of a pool ends before this is set."""
    gate, gone = threading.Event(), Scheduler.on_exit

    def held(*args):
        gate.wait(10)
        gone(*args)

    monkeypatch.setattr(Scheduler, "on_exit", held)
    yield gate
    gate.set()


async def test_who_waits_when_the_pool_is_stopped_is_told(world):
    pool = world.pool(maxsize=1)
    await pool.start()
    conn = await pool.acquire()
    waiters = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await turns()

    await pool.stop()

    answers = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(answer) for answer in answers] == [PoolShutDown] * 3
    await pool.release(conn)


async def test_a_connection_that_is_being_made_is_cleaned_when_it_is_there(world):
    pool = world.pool(minsize=0)
    await pool.start()
    world.gate = asyncio.Event()
    waiter = asyncio.create_task(pool.acquire())
    await turns()

    stopping = asyncio.create_task(pool.stop())
    await turns()
    assert isinstance(waiter.exception(), PoolShutDown)
    assert not stopping.done()
    world.gate.set()
    await stopping

    assert [conn.closed for conn in world.made] == [1]


async def test_a_connection_that_is_being_checked_is_cleaned(world):
    gate = asyncio.Event()

    async def check(conn):
        await gate.wait()
        return True

    pool = world.pool(healthchecker=check)
    await pool.start()
    waiter = asyncio.create_task(pool.acquire())
    await turns()
    stopping = asyncio.create_task(pool.stop())
    await turns()

    gate.set()
    await stopping

    assert isinstance(waiter.exception(), PoolShutDown)
    assert world.made[0].closed


async def test_a_handed_over_connection_of_a_stopped_pool_is_cleaned_when_it_comes_back(world):
    pool = world.pool(maxsize=1)
    await pool.start()
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await turns()

    await pool.release(conn)
    await pool.stop()

    assert await waiter is conn
    assert not conn.closed
    await pool.release(conn)
    assert conn.closed


async def test_a_factory_that_never_returns_is_cancelled_in_the_end(world):
    pool = world.pool(minsize=0)
    await pool.start()
    world.gate = asyncio.Event()
    waiter = asyncio.create_task(pool.acquire())
    await turns()

    await pool.stop(timeout=0.01)

    assert isinstance(waiter.exception(), PoolShutDown)
    assert pool.stats().making == 0


async def stopped_while_a_thread_connects(world, cleaner):
    """The pool, and the gate behind which its thread waits."""
    gate = threading.Event()

    def factory():
        gate.wait(10)
        return world.make()

    pool = ConnectionPool(factory, minsize=0, cleaner=cleaner)
    await pool.start()
    waiter = asyncio.create_task(pool.acquire())
    await turns()
    await pool.stop(timeout=0)
    assert isinstance(waiter.exception(), PoolShutDown)
    return pool, gate


async def test_a_thread_that_outlasts_the_stop_loses_no_connection(world):
    pool, gate = await stopped_while_a_thread_connects(world, world.close)

    gate.set()
    await asyncio.wait([*pool._connections.tasks])

    assert [conn.closed for conn in world.made] == [1]


async def test_a_connection_that_comes_late_is_cleaned_though_a_second_stop_does_not_wait_for_it(world, last_step):
    pool, gate = await stopped_while_a_thread_connects(world, world.aclose)
    gate.set()
    await await_until(lambda: world.made)
    await turns()

    again = asyncio.create_task(pool.stop(timeout=0))
    await await_until(lambda: not pool._connections.tasks)
    last_step.set()
    await again

    assert [conn.closed for conn in world.made] == [1]


async def test_a_stop_waits_for_the_threads_that_a_cancelled_one_has_not_waited_for(world, last_step):
    pool = ConnectionPool(world.make, minsize=3)
    await pool.start()
    stopping = asyncio.create_task(pool.stop())
    await await_until(lambda: not pool._connections.functions._open)
    stopping.cancel()
    await asyncio.wait([stopping])
    assert stopping.cancelled()

    again = asyncio.create_task(pool.stop())
    await turns()

    assert not again.done()
    last_step.set()
    await again
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ConnectionPool")]
    world.made.clear()


async def test_a_connection_of_one_s_own_is_made_though_the_pool_is_stopped_and_started_meanwhile(world):
    begun, gate = threading.Event(), threading.Event()

    def factory(*, own=False):
        if own:
            begun.set()
            gate.wait(10)
        return world.make()

    async with ConnectionPool(factory, cleaner=world.aclose) as pool:
        making = asyncio.create_task(pool.create_connection(own=True))
        await await_until(begun.is_set)
        await pool.stop()
        await pool.start()

        gate.set()

        world.close(await making)


async def test_stops_at_once_wait_for_the_same(world):
    pool = world.pool(minsize=3)
    await pool.start()

    await asyncio.gather(*(pool.stop() for _ in range(3)))

    assert not world.open


async def test_a_stop_that_is_cancelled_still_cleans(world):
    pool = world.pool(minsize=3)
    await pool.start()
    stopping = asyncio.create_task(pool.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait([stopping])

    await pool.stop()

    assert not world.open


async def test_a_cleaner_may_stop_the_pool(world):
    async def cleaner(conn):
        await pool.stop()
        await world.aclose(conn)

    pool = world.pool(cleaner=cleaner, minsize=0, healthchecker=world.acheck)
    await pool.start()
    conn = await pool.acquire()
    conn.healthy = False

    await pool.release(conn)

    assert conn.closed


async def test_a_second_start_changes_nothing(world):
    async with world.pool(minsize=2) as pool:
        await pool.start()

        assert pool.currsize == 2


async def test_starts_at_once_make_minsize_connections(world):
    pool = world.pool(minsize=2)

    await asyncio.gather(*(pool.start() for _ in range(3)))

    assert len(world.made) == pool.currsize == 2
    await pool.stop()


async def test_a_start_that_fails_cleans_what_it_has_made_and_can_be_tried_again(world):
    async def factory():
        conn = await world.amake()
        if conn.number == 2:
            world.close(conn)
            raise ConnectionError("down")
        return conn

    pool = world.pool(factory=factory, minsize=4)

    with pytest.raises(ConnectionError, match="down"):
        await pool.start()

    assert not world.open
    assert (pool.currsize, pool.stats().making) == (0, 0)
    with pytest.raises(PoolError, match="not been started"):
        await pool.acquire()
    async with pool:
        assert pool.available == 4


async def test_a_start_that_waits_for_another_which_fails_tries_itself(world):
    world.errors.append(ConnectionError("down"))
    pool = world.pool()

    answers = await asyncio.gather(pool.start(), pool.start(), return_exceptions=True)

    assert [repr(answer) for answer in answers] == ["ConnectionError('down')", "None"]
    assert pool.available == 1
    await pool.stop()


async def test_a_start_that_is_cancelled_loses_nothing(world):
    world.gate = asyncio.Event()
    pool = world.pool(minsize=2)
    starting = asyncio.create_task(pool.start())
    await turns()

    starting.cancel()
    await turns()
    world.gate.set()
    await asyncio.wait([starting])

    assert starting.cancelled()
    assert not world.open


async def test_a_start_that_is_overtaken_by_a_stop_says_so(world):
    world.gate = asyncio.Event()
    pool = world.pool(minsize=1)
    starting = asyncio.create_task(pool.start())
    await turns()
    stopping = asyncio.create_task(pool.stop())
    await turns()

    world.gate.set()

    with pytest.raises(PoolShutDown):
        await starting
    await stopping


async def test_a_stopped_pool_can_be_started_again_when_nothing_is_lent(world):
    pool = world.pool()
    await pool.start()
    conn = await pool.acquire()
    await pool.stop()
    with pytest.raises(PoolError, match="1 connections are still lent"):
        await pool.start()
    await pool.release(conn)

    async with pool, pool.connection() as other:
        assert other is not conn


def test_a_stopped_pool_can_be_started_in_another_loop():
    async def main():
        async with pool, pool.connection():
            return pool.currsize

    pool = ConnectionPool(object)

    assert [asyncio.run(main()) for _ in range(2)] == [1, 1]
