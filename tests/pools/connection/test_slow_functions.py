"""A factory, a healthchecker or a cleaner that is slow or never answers holds up its own connection alone."""

import asyncio
import inspect
import threading
from contextlib import contextmanager

import pytest

from cachify_tasks.pools import ConnectionPool, PoolTimeout
from cachify_tasks.pools.connection import timed_call
from tests.support.programs import run
from tests.support.waiting import await_until

from .kit import turns

SOON = 0.02  # a limit that a call which never answers is to reach
LONG = 20.0


class Stuck:
    """Stands still where it is entered, until it is opened: in the event loop, in a thread, or in a coroutine that does
    not end when it is cancelled.
    """

    def __init__(self):
        self.entered = 0
        self._in_loop = asyncio.Event()
        self._in_thread = threading.Event()

    def open(self):
        self._in_loop.set()
        self._in_thread.set()

    async def coroutine(self):
        self.entered += 1
        await self._in_loop.wait()

    def thread(self):
        self.entered += 1
        assert self._in_thread.wait(LONG)

    async def stubborn(self):
        self.entered += 1
        while not self._in_loop.is_set():
            try:
                await self._in_loop.wait()
            except asyncio.CancelledError:
                continue


KINDS = pytest.mark.parametrize("kind", ["coroutine", "thread", "stubborn"])


@pytest.fixture
async def stuck():
    made = Stuck()
    yield made
    made.open()


@pytest.fixture
def soon_slow(monkeypatch):
    monkeypatch.setattr(timed_call, "SLOW_S", SOON)


def function(stuck, kind, then, when):
    """A function of that kind, which is stuck when the condition is true."""
    enter = getattr(stuck, kind)
    if kind == "thread":

        def sync(*args):
            if when(*args):
                enter()
            return then(*args)

        return sync

    async def coroutine(*args):
        if when(*args):
            await enter()
        return then(*args)

    return coroutine


@contextmanager
def impatient(pool):
    """A short limit for what is called in the block, so that a busy machine is too slow for nothing else."""
    limit = pool._options.call_timeout
    object.__setattr__(pool._options, "call_timeout", SOON)
    yield
    object.__setattr__(pool._options, "call_timeout", limit)


async def test_idle_connections_are_lent_while_one_that_came_back_is_checked(world, stuck):
    check = function(stuck, "coroutine", world.check, lambda conn: conn is world.made[0] and bool(conn.args))
    async with world.pool(minsize=3, maxsize=3, healthchecker=check, lifo=False) as pool:
        first = await pool.acquire()
        first.args = ("stuck",)
        releasing = asyncio.create_task(pool.release(first))
        await turns()

        others = await asyncio.wait_for(asyncio.gather(pool.acquire(), pool.acquire()), LONG)

        assert not releasing.done()
        assert all(conn is not first for conn in others)
        stuck.open()
        for conn in others:
            await pool.release(conn)
        await releasing


async def test_idle_connections_are_lent_while_one_for_minsize_is_made(world, stuck):
    factory = function(stuck, "coroutine", world.make, lambda: len(world.made) >= 3)
    async with world.pool(factory=factory, minsize=3, healthchecker=world.acheck) as pool:
        first = await pool.acquire()
        first.healthy = False
        await pool.release(first)
        await await_until(lambda: stuck.entered == 1)

        conn = await asyncio.wait_for(pool.acquire(), LONG)

        await pool.release(conn)
        stuck.open()


async def test_the_next_idle_connection_is_checked_when_the_check_of_one_is_slow(world, stuck, soon_slow):
    check = function(stuck, "coroutine", world.check, lambda conn: conn is world.made[0])
    async with world.pool(minsize=2, maxsize=2, healthchecker=check, lifo=False) as pool:
        conn = await asyncio.wait_for(pool.acquire(), LONG)

        assert (stuck.entered, conn.number) == (1, 1)
        stuck.open()
        await pool.release(conn)


async def test_another_connection_is_made_when_a_check_is_slow_and_there_is_room(world, stuck, soon_slow):
    check = function(stuck, "coroutine", world.check, lambda conn: conn is world.made[0])
    async with world.pool(minsize=1, maxsize=2, healthchecker=check) as pool:
        conn = await asyncio.wait_for(pool.acquire(), LONG)

        assert (stuck.entered, conn.number) == (1, 1)
        stuck.open()
        await pool.release(conn)


@KINDS
async def test_a_factory_that_never_answers_is_an_error_and_frees_its_place(world, stuck, kind):
    factory = function(stuck, kind, world.make, lambda: stuck.entered == 0)
    async with world.pool(factory=factory, minsize=0, maxsize=1) as pool:
        with (
            impatient(pool),
            pytest.raises(PoolTimeout, match=r"the factory has not answered within 0.02 s \(call_timeout\)"),
        ):
            await pool.acquire()

        conn = await pool.acquire(_timeout_=LONG)

        assert pool.stats().failed == 1
        stuck.open()
        await pool.release(conn)


async def test_threads_that_never_answer_leave_threads_for_the_others(world, stuck):
    factory = function(stuck, "thread", world.make, lambda: stuck.entered < 2)
    async with world.pool(factory=factory, minsize=0, maxsize=2) as pool:
        with impatient(pool):
            failed = await asyncio.gather(pool.acquire(), pool.acquire(), return_exceptions=True)
        assert [type(error) for error in failed] == [PoolTimeout] * 2

        conn = await pool.acquire(_timeout_=LONG)

        await pool.release(conn)
        stuck.open()


async def test_a_factory_that_waits_for_a_thread_is_not_called_when_it_is_given_up(world, stuck):
    factory = function(stuck, "thread", world.make, lambda: True)
    async with world.pool(factory=factory, minsize=0, maxsize=1) as pool:
        for _ in range(4):  # two threads stand still then: one of the pool's own, and one that makes up for it
            with impatient(pool), pytest.raises(PoolTimeout):
                await pool.acquire()

        stuck.open()
        await await_until(lambda: not pool._connections.tasks)

        assert stuck.entered <= 2
        assert not world.open


@pytest.mark.parametrize("kind", ["thread", "stubborn"])
async def test_a_connection_that_is_made_too_late_is_cleaned(world, stuck, kind):
    factory = function(stuck, kind, world.make, lambda: True)
    async with world.pool(factory=factory, minsize=0) as pool:
        with impatient(pool), pytest.raises(PoolTimeout):
            await pool.acquire()
        with impatient(pool), pytest.raises(PoolTimeout):
            await pool.create_connection()
        assert (pool.currsize, pool.stats().making) == (0, 0)

        stuck.open()

        await await_until(lambda: len(world.made) == 2 and not world.open)


@KINDS
async def test_a_check_that_never_answers_gives_its_connection_up(world, stuck, kind, caplog):
    check = function(stuck, kind, world.check, lambda conn: conn is world.made[0])

    async def cleaner(conn):  # in one step, so that no limit can strike
        world.close(conn)

    async with world.pool(healthchecker=check, cleaner=cleaner, minsize=0, maxsize=1) as pool:
        sick = await pool.acquire()

        with impatient(pool):
            await pool.release(sick)
        other = await pool.acquire(_timeout_=LONG)

        assert (pool.stats().sick, pool.stats().checking) == (1, 0)
        assert sick.closed == (kind == "coroutine")  # not while its check goes on
        stuck.open()
        await await_until(lambda: sick.closed)
        await pool.release(other)
    assert "the healthchecker has not answered within 0.02 s (call_timeout)" in caplog.text


@KINDS
async def test_a_cleaner_that_never_answers_frees_its_place(world, stuck, kind, caplog):
    cleaner = function(stuck, kind, world.close, lambda conn: conn is world.made[0])
    async with world.pool(cleaner=cleaner, minsize=0, maxsize=1) as pool:
        first = await pool.acquire()
        await pool.resize(0, 2)
        second = await pool.acquire()
        await pool.resize(0, 1)

        with impatient(pool):
            await pool.release(first)

        assert (pool.currsize, pool.stats().cleaning) == (1, 0)
        stuck.open()
        if kind == "coroutine":  # it was cancelled
            world.close(first)
        await await_until(lambda: first.closed)
        await pool.release(second)
    assert "the cleaner failed: PoolTimeout(" in caplog.text


async def test_what_create_connection_makes_too_late_is_cleaned_without_a_start(world, stuck):
    pool = world.pool(factory=function(stuck, "stubborn", world.make, lambda: True))
    with impatient(pool), pytest.raises(PoolTimeout):
        await pool.create_connection()

    stuck.open()

    await await_until(lambda: world.made and not world.open)


def test_a_program_ends_though_a_thread_of_a_check_never_does():
    printed = run("""
        import asyncio, threading
        from cachify_tasks.pools import ConnectionPool

        async def connect():
            return object()

        def check(conn):
            threading.Event().wait()

        async def main():
            pool = ConnectionPool(connect, healthchecker=check, call_timeout=0.01)
            await pool.start()
            await pool.acquire()  # a new one
            print("lent")
            await pool.stop(0.01)

        asyncio.run(main())
    """)

    assert printed == "lent\n"


async def test_a_start_whose_factory_never_answers_ends(world, stuck):
    pool = world.pool(factory=function(stuck, "coroutine", world.make, lambda: True), minsize=2, call_timeout=SOON)

    with pytest.raises(PoolTimeout, match="the factory has not answered"):
        await pool.start()


async def test_maintenance_goes_on_while_a_check_does_not_answer(world, stuck, monkeypatch):
    monkeypatch.setattr("cachify_tasks.pools.connection.maintenance.SLOW_S", SOON)
    check = function(stuck, "coroutine", world.check, lambda conn: conn is world.made[0])
    options = {"healthchecker": check, "minsize": 3, "maxsize": 3, "keepalive": 0.01, "lifo": False}
    async with world.pool(**options):
        await await_until(lambda: stuck.entered and world.checked.count(1) > 1 and world.checked.count(2) > 1)

        assert 0 not in world.checked
        stuck.open()


def test_waits_and_calls_end_after_thirty_seconds_if_nothing_else_is_said():
    parameters = inspect.signature(ConnectionPool.__init__).parameters

    assert (parameters["timeout"].default, parameters["call_timeout"].default) == (30, 30)


async def test_waits_with_and_without_a_timeout_of_their_own_end_each_in_its_time(world):
    async with world.pool(maxsize=1, timeout=SOON) as pool:
        conn = await pool.acquire()
        patient = asyncio.create_task(pool.acquire(_timeout_=None))
        await turns()

        ended = await asyncio.gather(*(pool.acquire() for _ in range(40)), return_exceptions=True)

        assert all(isinstance(error, PoolTimeout) for error in ended)
        assert pool.stats().waiting == 1
        await pool.release(conn)
        await pool.release(await patient)


@pytest.mark.parametrize("value", [0, -1, "1", True])
def test_a_call_timeout_is_more_than_no_time(value):
    with pytest.raises((TypeError, ValueError), match="call_timeout must be"):
        ConnectionPool(object, call_timeout=value)
