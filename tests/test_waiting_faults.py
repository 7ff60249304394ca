"""Calls that wait for a slot, and what goes wrong: errors, cancellations, signals, forgotten waiters."""

import asyncio
import contextlib
import random
import signal
import time

import pytest

from cachify_tasks import CachifyPoolFullError, Wait, pool, pooled
from cachify_tasks._core.commands import SlotRequest, WaitInQueue
from cachify_tasks._store.records import CHANNEL, TICKET
from tests.support.meddling import Struck, interrupting, meddled, struck_by_signals
from tests.support.queues import nothing_is_left, queued, waiting
from tests.support.waiting import await_until

SOON = 8.0  # seconds, less than the interval at which an uncalled waiter asks


def forget(store, holder):
    """As when its reserved slot has expired: its ticket is gone, and no tombstone tells of it."""
    if hasattr(store, "_pools"):
        store._pools["p"].queue.pop(holder)
        store._pools["p"].tickets.pop(holder)
        store._pools["p"].channels.pop(holder)
    else:
        keys = store.schema.pool("p")
        store.client.zrem(keys.queue, holder)
        store.client.hdel(keys.tickets, TICKET + holder, CHANNEL + holder)


def test_an_exception_in_the_body_lets_the_next_one_in(cachify, threads):
    @pooled("p", max_size=1, on_full=Wait())
    def work():
        raise ValueError("mine")

    with pool("p", max_size=1):
        calls = [threads.submit(work) for _ in range(3)]
        queued(cachify, 3)

    for call in calls:
        with pytest.raises(ValueError, match="mine"):
            call.result(SOON)
    nothing_is_left(cachify)


@pytest.mark.parametrize("form", ["aacquire", "pooled"])
async def test_waiters_cancelled_at_any_await_leave_nothing(cachify, form):
    dice, p = random.Random(3), pool("p", max_size=2)

    @pooled("p", max_size=2, on_full=Wait())
    async def work():
        await asyncio.sleep(0.005)

    async def acquired():
        async with p.aacquire():
            await asyncio.sleep(0.005)

    tasks = []
    for number in range(200):
        tasks.append(asyncio.create_task((work if form == "pooled" else acquired)()))
        for _ in range(number % 15):
            await asyncio.sleep(0)
        if number % 3:
            await asyncio.sleep(dice.uniform(0, 0.003))
        if number % 4:
            dice.choice(tasks[-8:]).cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(end) for end in ends} <= {asyncio.CancelledError, type(None)}
    assert sum(isinstance(end, asyncio.CancelledError) for end in ends) > 30
    nothing_is_left(cachify)


async def test_a_waiter_cancelled_while_it_asks_leaves_at_once(cachify):
    def cancel(command, moment):
        if isinstance(command, WaitInQueue) and moment == "after":
            task.cancel()

    async with pool("p", max_size=1):
        meddled(cachify, cancel)
        task = asyncio.create_task(pool("p", max_size=1).aacquire().__aenter__())

        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(SOON):
                await task
        assert waiting(cachify) == 0


async def test_a_waiter_cancelled_when_its_slot_is_reserved_hands_it_on(cachify):
    p = pool("p", max_size=1)
    held = await p.aacquire()
    assert held.slot is not None
    first, second = [asyncio.create_task(p.aacquire().__aenter__()) for _ in range(2)]
    await await_until(lambda: waiting(cachify) == 2)

    assert held.slot is not None
    cachify._runtime.store.execute(held.slot.release_command())  # the loop does not turn: nobody has heard it
    first.cancel()

    with pytest.raises(asyncio.CancelledError):
        await first
    async with asyncio.timeout(SOON):
        slot = await second
    keeper = cachify._runtime.keeper
    keeper.stop_renewing(held.slot)
    command = keeper.stop_renewing(slot)
    assert command is not None
    cachify._runtime.store.execute(command)
    nothing_is_left(cachify)


def test_an_event_loop_that_ends_takes_its_waiters_with_it(cachify):
    async def main():
        calls = [asyncio.create_task(pool("p", max_size=1).aacquire().__aenter__()) for _ in range(20)]
        await asyncio.sleep(0.02)
        return len(calls)

    with pool("p", max_size=1):
        asyncio.run(main())

        assert waiting(cachify) == 0
    nothing_is_left(cachify)


async def test_a_waiting_coroutine_that_is_thrown_away_leaves_the_queue(cachify):
    @pooled("p", max_size=1, on_full=Wait())
    async def work(): ...

    held = await pool("p", max_size=1).aacquire()
    coroutine = work()
    waited_for = coroutine.send(None)
    while waiting(cachify) == 0:
        await asyncio.sleep(0.001)
        if waited_for is None or waited_for.done():
            waited_for = coroutine.send(None)

    coroutine.close()

    await await_until(lambda: waiting(cachify) == 0)
    await held.arelease()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Struck(), ValueError("a soft time limit")])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("script", "nth"), [("acquire", 1), ("acquire", 2), ("acquire", 3), ("withdraw", 1)])
def test_a_signal_in_the_middle_of_a_command_of_a_waiter_leaves_nothing(cachify, script, nth, moment, error):
    due, strike = [nth], interrupting(script, moment, error)

    def meddle(command, now):
        if command.holder != holder and command.script == script and now == moment:
            due[0] -= 1
        if due[0] == 0:
            strike(command, now)

    with pool("p", max_size=1) as slot:
        holder = slot.holder
        store = cachify._runtime.store
        meddled(cachify, meddle)

        with pytest.raises((type(error), CachifyPoolFullError)) as caught:
            pool("p", max_size=1).acquire(timeout=0.05)

        cachify._runtime.store = store
        assert waiting(cachify) == 0
        assert caught.value is error or due[0] > 0
    nothing_is_left(cachify)


@struck_by_signals
def test_signals_at_random_moments_of_waiting_leave_nothing(cachify):
    dice, armed, struck, p = random.Random(5), [False], 0, pool("p", max_size=1)

    def handle(*_):
        if armed[0]:
            armed[0] = False
            raise Struck

    @pooled("p", max_size=1, on_full=Wait(timeout=0.01))
    def work(): ...

    before = signal.signal(signal.SIGALRM, handle)
    try:
        for turn in range(300):
            with p if turn % 2 else contextlib.nullcontext():
                try:
                    armed[0] = True
                    signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 0.015 if turn % 2 else 0.002))
                    work()
                    armed[0] = False
                except Struck:
                    struck += 1
                except CachifyPoolFullError:
                    armed[0] = False
    finally:
        armed[0] = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert struck > 100
    nothing_is_left(cachify)


def test_a_signal_ends_the_waiting_of_the_main_thread_at_once(cachify):
    def handle(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handle)
    held = pool("p", max_size=1).acquire()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        began = time.monotonic()

        with pytest.raises(KeyboardInterrupt):
            pool("p", max_size=1).acquire()

        assert time.monotonic() - began < SOON
        assert waiting(cachify) == 0
    finally:
        held.release()
        signal.signal(signal.SIGALRM, before)


def test_a_waiter_that_was_forgotten_queues_again_when_it_asks(cachify, threads):
    store, p = cachify._runtime.store, pool("p", max_size=1)
    with p:
        call = threads.submit(p.acquire)
        queued(cachify, 1)
        ((holder, wakeup),) = store.wakeups._wakeups.items()
        forget(store, holder)
        assert waiting(cachify) == 0

        wakeup.notify()

        queued(cachify, 1)
    call.result(SOON).release()


def test_a_withdrawn_waiter_is_not_let_in_by_a_late_copy_of_its_question(cachify):
    store = cachify._runtime.store
    asked = []
    meddled(cachify, lambda command, moment: asked.append(command) if isinstance(command, SlotRequest) else None)
    p = pool("p", max_size=1)
    with p, pytest.raises(CachifyPoolFullError):
        p.acquire(timeout=0.05)

    late = store.execute(asked[-1])

    assert (type(asked[-1]), late.status) == (WaitInQueue, "dropped")
    assert (p.size(), waiting(cachify)) == (0, 0)
