"""A call that waits for a slot that its own caller holds: an error where that is certain, else a warning."""

import asyncio
import contextvars
import logging

import pytest

from cachify_tasks import CachifyPoolFullError, Wait, pool, pooled, testing
from cachify_tasks._core.commands import Configure
from cachify_tasks._runtime import own_slots
from tests.support.queues import nothing_is_left, waiting
from tests.support.waiting import PATIENCE_S, await_until, wait_until

ITSELF = r"^pool 'p' is full: {n} of {n} slots are taken; the caller itself holds them until this call returns"


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.fixture
def soon(monkeypatch):
    """The warning comes at once."""
    monkeypatch.setattr(own_slots, "WARN_AFTER_S", 0.05)


@pooled("p", max_size=1, on_full=Wait())
def inner():
    return "ran"


@pooled("p", max_size=1, on_full=Wait())
async def ainner():
    return "ran"


def test_a_function_that_waits_for_its_callers_slot_is_an_error_at_once(cachify):
    @pooled("p", max_size=1, on_full=Wait())
    def outer():
        return inner()

    with pytest.raises(CachifyPoolFullError, match=ITSELF.format(n=1)) as caught:
        outer()

    assert (caught.value.key, caught.value.limit, caught.value.held) == ("p", 1, 1)
    nothing_is_left(cachify)


@pytest.mark.parametrize("wait", [inner, lambda: pool("p", max_size=1).acquire()])
def test_a_block_that_waits_for_its_own_pool_is_an_error_at_once(cachify, wait):
    with pool("p", max_size=1), pytest.raises(CachifyPoolFullError, match=ITSELF.format(n=1)):
        wait()

    nothing_is_left(cachify)


def test_slots_further_out_count_with_those_of_other_pools_between(cachify):
    p = pool("p", max_size=3)

    with p, pool("q", max_size=1), p.acquire(), pool("r", max_size=1), p:
        with pytest.raises(CachifyPoolFullError, match=ITSELF.format(n=3)):
            p.acquire()
        assert waiting(cachify) == 0


async def test_a_coroutine_that_waits_for_its_callers_slot_is_an_error_at_once(cachify):
    @pooled("p", max_size=1, on_full=Wait())
    async def outer():
        return await ainner()

    with pytest.raises(CachifyPoolFullError, match=ITSELF.format(n=1)):
        await outer()
    async with pool("p", max_size=1):
        with pytest.raises(CachifyPoolFullError, match=ITSELF.format(n=1)):
            await pool("p", max_size=1).aacquire()

    nothing_is_left(cachify)


def test_a_generator_that_waits_in_its_callers_slot_is_an_error_at_once(cachify):
    @pooled("p", max_size=1, on_full=Wait())
    def rows():
        yield 1

    with pool("p", max_size=1), pytest.raises(CachifyPoolFullError, match=ITSELF.format(n=1)):
        list(rows())


def test_a_raised_limit_makes_room_for_the_inner_call(cachify):
    store = cachify._runtime.store
    store.execute(Configure(pool="p", limit=2, start_ms=10_000))

    with pool("p", max_size=1):
        assert inner() == "ran"

    store.execute(Configure(pool="p", limit=None, start_ms=10_000))


def test_with_a_timeout_it_waits_that_long_and_says_so(cachify):
    with pool("p", max_size=1), pytest.raises(CachifyPoolFullError, match=r"waited for 0\.05 s"):
        pool("p", max_size=1).acquire(timeout=0.05)


def test_a_slot_that_ends_by_itself_is_waited_for(cachify, monkeypatch):
    monkeypatch.setattr(own_slots, "WARN_AFTER_S", 0.3)  # it asks again then

    with pool("p", max_size=1, slot_exp=0.1):
        assert inner() == "ran"


def test_one_of_two_slots_may_become_free_and_is_warned_of(cachify, caplog, threads, soon):
    p = pool("p", max_size=2)
    held = p.acquire()  # by this thread

    def outer():
        with p:
            return p.acquire()

    with testing.events() as seen:
        call = threads.submit(outer)
        wait_until(lambda: lines(caplog))
    held.release()

    call.result(PATIENCE_S).release()
    assert lines(caplog) == [
        "an acquire still waits for a slot of pool 'p', of which its own caller holds 1 of 2: perhaps for ever"
    ]
    assert testing.WaitsForItself(pool="p", label="", limit=2, own=1) in list(seen)
    nothing_is_left(cachify)


def test_a_slot_acquired_by_hand_may_be_released_by_another_thread_and_is_warned_of(cachify, caplog, threads, soon):
    held, calls = [], []

    def work():
        held.append(pool("p", max_size=1).acquire())
        return inner()

    calls.append(threads.submit(work))
    wait_until(lambda: lines(caplog))
    held[0].release()

    assert calls[0].result(PATIENCE_S) == "ran"
    (line,) = lines(caplog)
    assert line.startswith("inner still waits for a slot of pool 'p', of which its own caller holds 1 of 1:")


def test_a_generator_that_is_open_in_this_thread_is_warned_of(cachify, caplog, threads, soon):
    @pooled("p", max_size=1, on_full=Wait())
    def rows():
        yield 1

    def work():
        items = rows()
        next(items)
        try:
            return pool("p", max_size=1).acquire(timeout=0.3)
        except CachifyPoolFullError:
            return None
        finally:
            items.close()

    assert threads.submit(work).result(PATIENCE_S) is None
    assert len(lines(caplog)) == 1


async def test_a_task_in_the_slot_of_the_task_that_started_it_is_warned_of(cachify, caplog, soon):
    async with pool("p", max_size=1):
        call = asyncio.create_task(ainner())
        await await_until(lambda: lines(caplog))
        assert not call.done()

    async with asyncio.timeout(PATIENCE_S):
        assert await call == "ran"
    assert len(lines(caplog)) == 1


async def test_tasks_that_wait_for_other_tasks_are_not_warned_of(cachify, caplog, soon):
    p = pool("p", max_size=1)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold():
        async with p:
            entered.set()
            await leave.wait()

    holder = asyncio.create_task(hold())
    await entered.wait()
    with pytest.raises(CachifyPoolFullError, match=r"waited for 0\.3 s"):
        await p.aacquire(timeout=0.3)
    leave.set()
    await holder

    assert lines(caplog) == []


def test_threads_that_wait_for_other_threads_are_not_warned_of(cachify, caplog, threads, soon):
    with pool("p", max_size=1), pytest.raises(CachifyPoolFullError, match=r"waited for 0\.3 s"):
        threads.submit(pool("p", max_size=1).acquire, timeout=0.3).result(PATIENCE_S)

    assert lines(caplog) == []


def test_slots_that_are_freed_are_not_kept_by_those_that_were_taken_in_them(cachify):
    with pool("p", max_size=1) as outer:
        with pool("q", max_size=1) as middle:
            assert middle.outer is outer
        assert middle.outer is None


def test_a_slot_entered_twice_makes_no_endless_chain(cachify):
    held = pool("p", max_size=1).acquire()

    def work():
        with held, held, pytest.raises(CachifyPoolFullError, match=ITSELF.format(n=1)):
            inner()

    contextvars.copy_context().run(work)
    nothing_is_left(cachify)
