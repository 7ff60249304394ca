"""Calls that wait for a slot: `Wait`, `acquire`, `aacquire`, on memory and on Redis."""

import asyncio
import threading
import time

import pytest

from cachify_tasks import CachifyError, CachifyPoolFullError, Wait, current_slot, pool, pooled
from cachify_tasks._core.commands import Acquire, Configure, Release, SlotRequest, Sweep, Ticket
from tests.support.meddling import meddled
from tests.support.queues import nothing_is_left, queued, waiting
from tests.support.waiting import await_until

SOON = 8.0  # seconds, less than the interval at which an uncalled waiter asks


def test_a_call_waits_until_a_slot_is_free(cachify, threads):
    @pooled("p", max_size=1, on_full=Wait())
    def work(number: int) -> str:
        return f"{number} in {current_slot().key}"

    with pool("p", max_size=1):
        call = threads.submit(work, 7)
        queued(cachify, 1)
        assert not call.done()

    assert call.result(SOON) == "7 in p"
    nothing_is_left(cachify)


async def test_a_coroutine_waits_until_a_slot_is_free(cachify):
    @pooled("p", max_size=1, on_full=Wait())
    async def work() -> str:
        return current_slot().key

    async with pool("p", max_size=1):
        call = asyncio.create_task(work())
        await await_until(lambda: waiting(cachify) == 1)
        assert not call.done()

    async with asyncio.timeout(SOON):
        assert await call == "p"
    nothing_is_left(cachify)


def test_a_pool_with_room_lets_in_without_waiting_and_without_a_listener(cachify):
    listeners = [t for t in threading.enumerate() if t.name == "cachify-listener"]

    @pooled("p", max_size=1, on_full=Wait(timeout=0))
    def work() -> str:
        return "ran"

    answer: str = work()  # a checker knows that it is never None
    assert answer == "ran"
    with pool("p", max_size=1).acquire() as slot:
        assert slot.key == "p"
    assert [t for t in threading.enumerate() if t.name == "cachify-listener"] == listeners


def test_who_has_waited_in_vain_is_told_how_long(cachify):
    @pooled("p", max_size=1, on_full=Wait(timeout=0.2))
    def work(): ...

    told = r"^pool 'p' is full: 1 of 1 slots are taken; waited for 0.2 s$"
    with pool("p", max_size=1):
        for wait in (work, lambda: pool("p", max_size=1).acquire(timeout=0.2)):
            began = time.monotonic()
            with pytest.raises(CachifyPoolFullError, match=told) as caught:
                wait()
            assert 0.2 <= time.monotonic() - began < SOON
            assert (caught.value.key, caught.value.limit, caught.value.held) == ("p", 1, 1)
        assert waiting(cachify) == 0
    nothing_is_left(cachify)


async def test_a_coroutine_that_has_waited_in_vain_is_told_how_long(cachify):
    @pooled("p", max_size=1, on_full=Wait(timeout=0.1))
    async def work(): ...

    async with pool("p", max_size=1):
        with pytest.raises(CachifyPoolFullError, match=r"waited for 0.1 s"):
            await work()
        with pytest.raises(CachifyPoolFullError, match=r"waited for 0.1 s"):
            await pool("p", max_size=1).aacquire(timeout=0.1)
        assert waiting(cachify) == 0


def test_a_timeout_of_0_does_not_wait(cachify):
    with pool("p", max_size=1):
        with pytest.raises(CachifyPoolFullError, match="not waited for"):
            pool("p", max_size=1).acquire(timeout=0)

        assert waiting(cachify) == 0


@pytest.mark.parametrize("value", [-1, "5", True, float("inf")])
def test_a_timeout_that_is_none_is_refused_where_it_is_given(cachify, value):
    for give in (Wait, pool("p", max_size=1).acquire, pool("p", max_size=1).aacquire):
        with pytest.raises((TypeError, ValueError), match="timeout must be"):
            give(timeout=value)


def test_a_held_slot_is_freed_by_whoever_releases_it_once(cachify, threads):
    p = pool("p", max_size=2)
    held, other = p.acquire(), p.acquire(timeout=1)
    assert held.slot is not None
    with pytest.raises(CachifyError, match="no current slot"):
        current_slot()

    sent = []
    meddled(cachify, lambda command, moment: sent.append(command) if isinstance(command, Release) else None)
    threads.submit(held.release).result()
    held.release()

    assert len(sent) == 2  # before and after one command
    assert p.size() == 1
    other.release()
    assert p.size() == 0


def test_a_held_slot_is_the_current_one_in_its_block(cachify):
    p = pool("p", max_size=2)

    with p as outer:
        with p.acquire() as slot:
            assert current_slot() is slot
        assert current_slot() is outer

    assert p.size() == 0


async def test_a_slot_can_be_held_by_coroutines(cachify):
    p = pool("p", max_size=2)
    held = await p.aacquire(timeout=1)

    async with p.aacquire() as slot:
        assert current_slot() is slot
        assert await p.asize() == 2

    await held.arelease()
    await held.arelease()
    assert await p.asize() == 0


def test_a_generator_waits_before_its_first_item(cachify, threads):
    @pooled("p", max_size=1, on_full=Wait(timeout=SOON))
    def numbers():
        yield from range(3)

    with pool("p", max_size=1):
        items = threads.submit(list, numbers())
        queued(cachify, 1)

    assert items.result(SOON) == [0, 1, 2]


def test_a_waiter_sends_nothing_while_it_waits(cachify, threads):
    sent = []
    meddled(cachify, lambda command, moment: sent.append(command) if moment == "before" else None)
    p = pool("p", max_size=1)
    with p:
        call = threads.submit(p.acquire)
        queued(cachify, 1)
        time.sleep(0.5)  # what is not to happen has time to

        asked = [c for c in sent if isinstance(c, SlotRequest)]
        assert 2 <= len(asked) <= 4  # the holder; the waiter once or twice, and when its listener has subscribed

    call.result(SOON).release()
    assert len([c for c in sent if isinstance(c, SlotRequest)]) == len(asked) + 1


async def test_fifty_waiters_come_in_the_order_of_their_arrival(cachify):
    p, came = pool("p", max_size=1), []

    async def wait(number):
        async with p.aacquire():
            came.append(number)

    async with p:
        calls = []
        for number in range(50):
            calls.append(asyncio.create_task(wait(number)))
            await await_until(lambda: waiting(cachify) == len(calls))

    await asyncio.gather(*calls)
    assert came == list(range(50))
    nothing_is_left(cachify)


def test_threads_come_in_the_order_of_their_arrival(cachify, threads):
    p, came = pool("p", max_size=1), []

    def wait(number):
        with p.acquire():
            came.append(number)

    with p:
        calls = []
        for number in range(20):
            calls.append(threads.submit(wait, number))
            queued(cachify, len(calls))

    for call in calls:
        call.result(SOON)
    assert came == list(range(20))


async def test_five_hundred_coroutines_wait_and_all_come(cachify):
    inside, most, came = 0, 0, 0

    @pooled("p", max_size=5, on_full=Wait())
    async def work():
        nonlocal inside, most, came
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside, came = inside - 1, came + 1

    await asyncio.gather(*(work() for _ in range(500)))

    assert (most, came) == (5, 500)
    listeners = [t for t in threading.enumerate() if t.name == "cachify-listener"]
    assert len(listeners) <= 1
    nothing_is_left(cachify)


def test_two_event_loops_and_threads_wait_in_one_queue(cachify, threads):
    p, came = pool("p", max_size=1), []

    async def wait():
        async with p.aacquire():
            came.append("coroutine")

    def wait_here():
        with p.acquire():
            came.append("thread")

    order = []
    with p:
        calls = []
        for number in range(12):
            kind = "thread" if number % 3 == 0 else "coroutine"
            order.append(kind)
            calls.append(threads.submit(wait_here) if kind == "thread" else threads.submit(asyncio.run, wait()))
            queued(cachify, len(calls))

    for call in calls:
        call.result(SOON)
    assert came == order
    nothing_is_left(cachify)


def test_a_parked_task_before_a_waiter_keeps_its_place(cachify, threads):
    store, p = cachify._runtime.store, pool("p", max_size=1)
    task = Acquire(
        pool="p",
        holder="task:0",
        request_id="r",
        limit=1,
        lease_ms=30000,
        start_ms=10000,
        can_start_heirs=True,
        ticket=Ticket(kind="task/test", envelope=b"message"),
    )
    with p:
        assert store.execute(task).status == "parked"
        call = threads.submit(p.acquire)
        queued(cachify, 2)

    (heir,) = store.execute(Sweep(pool="p", start_ms=10000)).heirs  # as a worker's reaper does
    assert heir.holder == "task:0"
    token = store.execute(task).token
    assert not call.done()
    store.execute(
        Release(
            pool="p", holder="task:0", token=token, request_id="r", start_ms=10000, tomb_ms=1000, can_start_heirs=True
        )
    )

    call.result(SOON).release()
    nothing_is_left(cachify)


def test_a_raised_limit_wakes_waiters(cachify, threads):
    store, p = cachify._runtime.store, pool("p", max_size=1)
    with p:
        calls = [threads.submit(p.acquire) for _ in range(2)]
        queued(cachify, 2)

        store.execute(Configure(pool="p", limit=3, start_ms=10000))

        for call in calls:
            call.result(SOON).release()
    store.execute(Configure(pool="p", limit=None, start_ms=10000))
