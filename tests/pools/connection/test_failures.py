"""Functions of the user that raise, hang or are cut off: nobody waits for ever, no place is lost."""

import asyncio
import itertools

import pytest

from cachify_tasks.pools import PoolError

from .kit import turns


def raising(error):
    def function(*args):
        raise error

    async def afunction(*args):
        raise error

    return {"sync": function, "async": afunction}


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_error_of_the_factory_goes_to_the_acquire_it_was_called_for(world, kind):
    async with world.pool(factory=raising(ConnectionError("down"))[kind], minsize=0, maxsize=1) as pool:
        answers = await asyncio.gather(*(pool.acquire() for _ in range(3)), return_exceptions=True)

        assert [repr(answer) for answer in answers] == ["ConnectionError('down')"] * 3
        assert (pool.currsize, pool.stats().making, pool.stats().failed) == (0, 0, 3)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("error", [StopIteration(), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_errors_that_no_future_likes_leave_nobody_waiting(world, kind, error):
    pool = world.pool(factory=raising(error)[kind], minsize=0, maxsize=1)
    await pool.start()

    with pytest.raises((type(error), RuntimeError)):  # the second is what a coroutine makes of a StopIteration
        await pool.acquire()

    assert (pool.stats().making, pool.stats().failed) == (0, 1)
    await pool.stop()


async def test_a_factory_that_runs_out_is_an_error(world):
    conns = itertools.chain([world.make()])
    async with world.pool(factory=conns.__next__, minsize=0, maxsize=2) as pool, pool.connection():
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.acquire()


async def test_a_factory_that_is_cancelled_from_within_cancels_nobody(world):
    async def factory():
        raise asyncio.CancelledError

    async with world.pool(factory=factory, minsize=0) as pool:
        with pytest.raises(PoolError, match="the factory was cancelled"):
            await pool.acquire()


async def test_who_waits_behind_a_failed_factory_has_an_attempt_of_its_own(world):
    world.gate = asyncio.Event()
    async with world.pool(minsize=0, maxsize=1) as pool:
        first, second = (asyncio.create_task(pool.acquire()) for _ in range(2))
        await turns()
        world.errors.append(ConnectionError("down"))
        world.gate.set()
        await asyncio.wait([first])

        conn = await second

        assert isinstance(first.exception(), ConnectionError)
        await pool.release(conn)


async def test_the_error_for_one_who_has_left_is_nobody_else_s(world):
    world.gate = asyncio.Event()
    async with world.pool(minsize=0, maxsize=1) as pool:
        first, second = (asyncio.create_task(pool.acquire(name)) for name in ("a", "b"))
        await turns()
        first.cancel()
        await turns()
        world.errors.append(ConnectionError("down"))
        world.gate.set()

        conn = await second

        assert conn.args == ("b",)
        await pool.release(conn)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_cleaner_that_raises_frees_its_place_all_the_same(world, kind, caplog):
    async with world.pool(cleaner=raising(OSError("broken"))[kind], maxsize=1, healthchecker=world.acheck) as pool:
        conn = await pool.acquire()
        conn.healthy = False
        waiter = asyncio.create_task(pool.acquire())
        await turns()

        await pool.release(conn)
        world.close(conn)

        other = await waiter
        assert other is not conn
        await pool.release(other)
        world.close(other)
    assert [record.message for record in caplog.records] == ["the cleaner failed: OSError('broken')"] * 2


@pytest.mark.parametrize("waiters", [1, 5])
async def test_an_unhealthy_connection_without_a_cleaner_leaves_its_place_to_who_waits(world, waiters):
    async with world.pool(cleaner=None, maxsize=1, healthchecker=world.acheck) as pool:
        conn = await pool.acquire()
        tasks = [asyncio.create_task(pool.acquire()) for _ in range(waiters)]
        await turns()

        for task in tasks:
            conn.healthy = False
            await pool.release(conn)
            world.close(conn)
            conn = await task

        await pool.release(conn)
    world.close(conn)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_healthchecker_that_raises_says_unhealthy(world, kind, caplog):
    async with world.pool(healthchecker=raising(OSError("broken"))[kind], minsize=0) as pool:
        conn = await pool.acquire()

        await pool.release(conn)

        assert conn.closed
        assert pool.currsize == 0
    assert caplog.records[0].message == "the healthchecker failed, its connection is given up: OSError('broken')"


async def test_a_release_that_is_cancelled_while_it_is_checked_still_releases(world):
    gate = asyncio.Event()

    async def check(conn):
        await gate.wait()
        return True

    async with world.pool(healthchecker=check, minsize=0) as pool:
        conn = await pool.acquire()
        releasing = asyncio.create_task(pool.release(conn))
        await turns()

        releasing.cancel()
        gate.set()
        await turns()

        assert releasing.cancelled()
        assert (pool.available, pool.in_use) == (1, 0)


async def test_the_place_of_a_connection_is_taken_until_it_has_been_cleaned(world):
    gate = asyncio.Event()

    async def cleaner(conn):
        await gate.wait()
        await world.aclose(conn)

    async with world.pool(cleaner=cleaner, healthchecker=world.acheck, maxsize=1) as pool:
        conn = await pool.acquire()
        conn.healthy = False
        releasing = asyncio.create_task(pool.release(conn))
        waiter = asyncio.create_task(pool.acquire())
        await turns()
        assert (pool.currsize, pool.stats().cleaning, waiter.done()) == (0, 1, False)

        gate.set()

        await pool.release(await waiter)
        await releasing
        assert world.most == 1


async def test_one_sick_connection_among_healthy_ones_holds_up_nobody(world):
    gate = asyncio.Event()

    async def cleaner(conn):
        await gate.wait()
        await world.aclose(conn)

    async with world.pool(cleaner=cleaner, healthchecker=world.acheck, minsize=2, maxsize=2) as pool:
        world.made[1].healthy = False

        try:
            conn = await asyncio.wait_for(pool.acquire(), 5)  # the sick one is asked first

            assert conn is world.made[0]
            await pool.release(conn)
        finally:
            gate.set()


async def test_eager_tasks_change_nothing(world):
    if not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("since Python 3.12")
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)

    async def factory():
        return world.make()

    async def down():
        raise ConnectionError("down")

    async with world.pool(factory=factory, maxsize=2, healthchecker=world.acheck) as pool:
        lent = await asyncio.gather(*(pool.acquire() for _ in range(2)))
        for conn in lent:
            conn.healthy = False
            await pool.release(conn)
    async with world.pool(factory=down, maxsize=1, minsize=0) as pool:
        answers = await asyncio.gather(*(pool.acquire() for _ in range(2000)), return_exceptions=True)
    loop.set_task_factory(None)

    assert {type(answer) for answer in answers} == {ConnectionError}
