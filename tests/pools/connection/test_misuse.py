"""Bad input and wrong use: an error that names the value and what is valid, at once, and nothing left hanging."""

import asyncio
import math
import os

import pytest

from cachify_tasks.pools import ConnectionPool, NotLent, PoolError, PoolShutDown
from tests.support.programs import run

from .kit import turns

SIZE = "must be an int of at least"
SECONDS = "must be seconds (a number or a timedelta)"


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"factory": 7}, TypeError, "factory must be a function, not 7"),
        ({"factory": None}, TypeError, "factory must be a function, not None"),
        ({"healthchecker": "x"}, TypeError, "healthchecker must be a function, not 'x'"),
        ({"cleaner": 1}, TypeError, "cleaner must be a function, not 1"),
        ({"maxsize": 0}, ValueError, f"maxsize {SIZE} 1, not 0"),
        ({"maxsize": 2.0}, TypeError, f"maxsize {SIZE} 1, not 2.0"),
        ({"maxsize": True}, TypeError, f"maxsize {SIZE} 1, not True"),
        ({"maxsize": 2**31}, ValueError, "maxsize must be an int from 1 to 100,000, not 2147483648"),
        ({"minsize": 2**31, "maxsize": 2**32}, ValueError, "minsize must be an int from 0 to 100,000, not 2147483648"),
        ({"lifo": "no"}, TypeError, "lifo must be True or False, not 'no'"),
        ({"minsize": -1}, ValueError, f"minsize {SIZE} 0, not -1"),
        ({"minsize": 4, "maxsize": 3}, ValueError, "minsize must be at most maxsize, which is 3, not 4"),
        ({"maxlife": 0}, ValueError, "maxlife must be more than 0 seconds, not 0"),
        ({"maxlife": math.nan}, ValueError, "maxlife must be more than 0 seconds, not nan"),
        ({"maxlife": "1"}, TypeError, f"maxlife {SECONDS}, not '1'"),
        ({"maxlife": None}, TypeError, f"maxlife {SECONDS}, not None"),
        ({"timeout": -1}, ValueError, "timeout must be at least 0 seconds, not -1"),
        ({"timeout": math.inf}, ValueError, "timeout must be at least 0 seconds, not inf"),
        ({"max_waiting": -1}, ValueError, f"max_waiting {SIZE} 0, not -1"),
        ({"max_idle": 0}, ValueError, "max_idle must be more than 0 seconds, not 0"),
        ({"jitter": 2}, ValueError, "jitter must be a number from 0 to 1, not 2"),
        ({"jitter": "a"}, TypeError, "jitter must be a number from 0 to 1, not 'a'"),
        ({"backoff": 0}, ValueError, "backoff must be more than 0 seconds, not 0"),
        ({"keepalive": True}, TypeError, f"keepalive {SECONDS}, not True"),
        ({"leak_after": -2}, ValueError, "leak_after must be more than 0 seconds, not -2"),
        ({"interval": None}, TypeError, f"interval {SECONDS}, not None"),
    ],
)
def test_a_value_that_cannot_be_taken_is_refused_when_it_is_given(options, error, told):
    with pytest.raises(error) as refused:
        ConnectionPool(**{"factory": object, **options})

    assert str(refused.value) == told


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ({"executor": 3}, "executor must be a concurrent.futures.Executor or None, not 3"),
        ({"akgen": [5]}, "akgen gives pairs of arguments"),
        ({"akgen": 5}, "akgen must be an iterable"),
    ],
)
async def test_a_start_that_makes_no_sense_starts_nothing(world, start, told):
    pool = world.pool()

    with pytest.raises(TypeError, match=told):
        await pool.start(**start)

    assert world.calls == 0
    async with pool, pool.connection():
        pass


async def use(pool):
    async with pool.connection():
        raise AssertionError("it was lent")


USES = {
    "acquire": lambda pool: pool.acquire(),
    "connection": use,
    "resize": lambda pool: pool.resize(1, 2),
    "wait": lambda pool: pool.wait(),
    "drain": lambda pool: pool.drain(),
}


@pytest.mark.parametrize("name", USES)
async def test_a_pool_that_is_not_started_says_so(world, name):
    pool = world.pool(minsize=1)

    with pytest.raises(PoolError, match="has not been started"):
        await USES[name](pool)


@pytest.mark.parametrize("name", USES)
async def test_a_pool_that_is_stopped_says_so(world, name):
    async with world.pool() as pool:
        pass

    with pytest.raises(PoolShutDown, match="has been stopped"):
        await USES[name](pool)


async def test_what_is_released_into_a_pool_that_is_not_started_is_refused(world):
    with pytest.raises(PoolError, match="has lent nothing"):
        await world.pool().release(object())


async def test_a_stop_of_what_does_not_run_does_nothing(world):
    pool = world.pool()

    await pool.stop()
    async with pool:
        pass
    await pool.stop()


@pytest.mark.parametrize("timeout", [-1, math.nan, "x"])
@pytest.mark.parametrize("idle", [True, False])
async def test_a_timeout_that_cannot_be_taken_is_refused_at_once(world, timeout, idle):
    async with world.pool(minsize=int(idle)) as pool:
        for method in (
            lambda: pool.acquire(_timeout_=timeout),
            lambda: pool.wait(timeout),
            lambda: pool.drain(timeout),
        ):
            with pytest.raises((TypeError, ValueError), match="timeout"):
                await method()

        assert pool.in_use == 0


async def test_a_connection_can_be_released_once(world):
    async with world.pool() as pool:
        conn = await pool.acquire()
        await pool.release(conn)

        with pytest.raises(NotLent, match="released already"):
            await pool.release(conn)

        assert (pool.available, pool.in_use) == (1, 0)


async def test_a_connection_that_is_released_twice_is_not_lent_twice(world):
    async with world.pool() as pool:
        conn = await pool.acquire()
        await pool.release(conn)
        with pytest.raises(NotLent):
            await pool.release(conn)

        one, two = await pool.acquire(), await pool.acquire()

        assert one is not two
        await pool.release(one)
        await pool.release(two)


async def test_a_connection_of_another_is_refused(world):
    async with world.pool() as pool, world.pool() as other:
        conn = await other.acquire()
        equal = world.make()

        for foreign in (conn, equal, None, "x"):
            with pytest.raises(NotLent, match="did not lend it"):
                await pool.release(foreign)

        assert pool.available == 1
        await other.release(conn)
        world.close(equal)


async def test_a_block_whose_connection_was_released_within_says_so(world):
    async with world.pool(maxsize=1) as pool:
        block = pool.connection()
        conn = await block.__aenter__()
        await pool.release(conn)
        later = await pool.acquire()

        with pytest.raises(NotLent, match="released within its block"):
            await block.__aexit__(None, None, None)

        assert pool.in_use == 1  # the block did not take it from the one who has it now
        await pool.release(later)


async def test_a_block_that_fails_after_it_released_keeps_its_own_error(world):
    async with world.pool() as pool:
        block = pool.connection()
        await pool.release(await block.__aenter__())

        await block.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)  # raises nothing of its own


async def test_a_block_is_entered_once(world):
    async with world.pool() as pool:
        block = pool.connection()
        async with block:
            with pytest.raises(PoolError, match="call connection"):
                async with block:
                    pass
        async with block:
            assert pool.in_use == 1

        assert pool.in_use == 0


async def test_a_factory_that_gives_the_same_object_twice_is_refused(world):
    same = world.make()

    async with world.pool(factory=lambda: same, maxsize=2) as pool:
        async with pool.connection():
            with pytest.raises(PoolError, match="must make a new one"):
                await pool.acquire()

        assert (pool.currsize, pool.available, pool.stats().making) == (1, 1, 0)


def test_another_event_loop_is_refused(world):
    pool, lent = world.pool(), None

    async def others():
        for method in (pool.acquire, lambda: pool.release(lent), pool.stop, pool.start, pool.drain):
            with pytest.raises(PoolError, match="belongs to the event loop it was started in, which is another one"):
                await method()

    async def main():
        nonlocal lent
        async with pool:
            lent = await pool.acquire()
            await asyncio.to_thread(asyncio.run, others())
            await pool.release(lent)
            await asyncio.to_thread(asyncio.run, others())

    asyncio.run(main())


def test_an_event_loop_that_has_ended_is_told():
    pool = ConnectionPool(object)

    async def acquire():
        await pool.acquire()

    asyncio.run(pool.start())

    with pytest.raises(PoolError, match="which has been closed"):
        asyncio.run(acquire())


def test_a_loop_of_the_same_thread_that_only_rests_is_told_apart(world):
    pool = world.pool(maxsize=1)
    one, two = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        one.run_until_complete(pool.start())
        with pytest.raises(PoolError, match="another one"):
            two.run_until_complete(pool.acquire())
        conn = one.run_until_complete(pool.acquire())
        with pytest.raises(PoolError, match="another one"):
            two.run_until_complete(pool.release(conn))
        one.run_until_complete(pool.release(conn))
        one.run_until_complete(pool.stop())
    finally:
        one.close()
        two.close()


FORK = """
import asyncio, os, sys, warnings
from cachify_tasks.pools import ConnectionPool, PoolError
warnings.simplefilter("ignore")
closed = []
pool = ConnectionPool(object, minsize=2, cleaner=closed.append)
loop = asyncio.new_event_loop()
loop.run_until_complete(pool.start())
conn = loop.run_until_complete(pool.acquire())
child = os.fork()
if child == 0:
    fresh = asyncio.new_event_loop()
    for mine in (loop, fresh):
        for use in (pool.acquire, lambda: pool.release(conn), pool.start, pool.drain):
            try:
                mine.run_until_complete(use())
            except PoolError as error:
                assert "the parent's" in str(error) and str(os.getpid()) in str(error), error
            else:
                os._exit(1)
        mine.run_until_complete(pool.stop())
    os._exit(2 if closed else 0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
loop.run_until_complete(pool.release(conn))
loop.run_until_complete(pool.stop())
loop.run_until_complete(loop.shutdown_default_executor())
print(len(closed))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_refused_and_closes_nothing_of_its_parent_s():
    assert run(FORK) == "2\n"


async def test_the_pool_shows_what_it_is(world):
    pool = world.pool(maxsize=2)
    assert repr(pool).startswith("<ConnectionPool not started")
    async with pool:
        assert repr(pool) == "<ConnectionPool open: 0 of 2 connections are lent, 0 acquires wait>"
    await turns()
    assert repr(pool).startswith("<ConnectionPool stopped")
