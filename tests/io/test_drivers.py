"""The drivers: results and errors pass, and nothing that strikes in the middle leaves a slot behind."""

import asyncio
import dataclasses
import random
import signal
import time
from typing import Any

import pytest
import redis

from cachify_tasks import CachifyStoreError, init_cachify, pool, pooled
from cachify_tasks._core.commands import Size
from cachify_tasks._core.flows import CHECKPOINT, Run, Sleep, enter, leave
from cachify_tasks._io.drivers import adrive, drive
from cachify_tasks._io.engine import set_global_engine
from cachify_tasks._io.heart import heart
from cachify_tasks._io.memory import MemoryStore
from cachify_tasks._io.slot import current
from tests.support.meddling import interrupting, meddled

COMMAND = Size("any")


class Struck(BaseException):
    """What a signal's handler raises."""


class SlowStore(MemoryStore):
    """Answers after a while, as a store at the other end of a network does."""

    local = False

    def __init__(self, error=None):
        super().__init__()
        self.entered, self.answer = asyncio.Event(), asyncio.Event()
        self.error = error

    async def aexecute(self, command):
        self.entered.set()
        await self.answer.wait()
        if self.error:
            raise self.error
        return await super().aexecute(command)


def steps():
    size = yield COMMAND
    yield Sleep(0.001)
    yield CHECKPOINT
    result = yield Run(lambda a, b: (a, b), (size,), {"b": 2})
    return result


async def test_both_drivers_do_every_step():
    assert drive(steps(), MemoryStore()) == (0, 2)
    assert await adrive(steps(), MemoryStore()) == (0, 2)


async def test_an_error_of_a_step_is_thrown_into_the_flow():
    def flow():
        try:
            yield Run(int, ("no number",))
        except ValueError:
            return "seen"

    assert drive(flow(), None) == "seen"
    assert await adrive(flow(), None) == "seen"


async def test_an_error_of_the_flow_comes_out():
    def flow():
        yield CHECKPOINT
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        drive(flow(), None)
    with pytest.raises(KeyError, match="mine"):
        await adrive(flow(), None)


def test_stop_iteration_of_user_code_stays_itself(cachify):
    @pooled("p", max_size=1)
    def exhausted():
        return next(iter(()))

    with pytest.raises(StopIteration) as caught:
        exhausted()

    assert type(caught.value) is StopIteration
    assert exhausted.size() == 0


def test_a_runtime_error_of_user_code_about_stop_iteration_stays_itself(cachify):
    @pooled("p", max_size=1)
    def confused():
        try:
            next(iter(()))
        except StopIteration as stop:
            raise RuntimeError("my own") from stop

    with pytest.raises(RuntimeError, match="my own"):
        confused()


# Cancellation


async def test_a_cancellation_in_a_command_waits_for_the_answer():
    store, seen = SlowStore(), []

    def flow():
        seen.append((yield COMMAND))
        try:
            yield CHECKPOINT
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = asyncio.create_task(adrive(flow(), store))
    await store.entered.wait()
    task.cancel()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    store.answer.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [0, "cancelled"]


async def test_a_cancellation_is_not_undone_by_an_error_that_comes_with_it():
    store = SlowStore(error=CachifyStoreError("out of reach"))

    def flow():
        yield COMMAND

    task = asyncio.create_task(adrive(flow(), store))
    await store.entered.wait()
    task.cancel()
    store.answer.set()

    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, CachifyStoreError)


async def test_a_cancellation_during_the_last_command_is_delivered_at_the_end():
    store = SlowStore()

    def flow():
        return (yield COMMAND)

    task = asyncio.create_task(adrive(flow(), store))
    await store.entered.wait()
    task.cancel()
    store.answer.set()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_around_a_slow_store_is_a_timeout():
    store = SlowStore()

    def flow():
        yield COMMAND
        yield CHECKPOINT

    async def answer_late():
        await asyncio.sleep(0.03)
        store.answer.set()

    answering = asyncio.create_task(answer_late())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await adrive(flow(), store)
    await answering


async def in_pool():
    async with pool("p", max_size=1000):
        await asyncio.sleep(0.0005)


@pooled("p", max_size=1000)
async def in_pooled():
    await asyncio.sleep(0.0005)


@pytest.mark.parametrize("work", [in_pool, in_pooled], ids=["pool", "pooled"])
async def test_150_cancelled_at_any_await_leave_no_slot(cachify, work):
    dice = random.Random(7)
    tasks = []
    for number in range(150):
        tasks.append(asyncio.create_task(work()))
        for _ in range(number % 15):
            await asyncio.sleep(0)
        if number % 3:
            await asyncio.sleep(dice.uniform(0, 0.002))
        tasks[-1].cancel()

    ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(end) for end in ends} <= {asyncio.CancelledError, type(None)}
    assert sum(isinstance(end, asyncio.CancelledError) for end in ends) > 50
    assert await pool("p", max_size=1000).asize() == 0


@pytest.mark.parametrize("work", [in_pool, in_pooled], ids=["pool", "pooled"])
async def test_timeouts_at_any_await_leave_no_slot(cachify_on_redis, work):
    dice, timeouts = random.Random(8), 0
    for _ in range(80):
        try:
            async with asyncio.timeout(dice.uniform(0, 0.003)):
                await work()
        except TimeoutError:
            timeouts += 1

    assert timeouts > 20
    assert await pool("p", max_size=1000).asize() == 0


async def test_a_burst_that_is_cancelled_at_once_leaves_no_slot(cachify_on_redis):
    tasks = [asyncio.create_task(in_pooled()) for _ in range(150)]
    await asyncio.sleep(0.003)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert await pool("p", max_size=1000).asize() == 0


@pytest.mark.parametrize("work", [in_pool, in_pooled], ids=["pool", "pooled"])
def test_a_program_that_ends_while_its_tasks_acquire_and_release_leaves_no_slot(cachify_on_redis, work):
    async def main():
        tasks = [asyncio.create_task(work()) for _ in range(50)]
        await asyncio.sleep(dice.uniform(0.001, 0.03))
        return len(tasks)  # asyncio.run cancels what still runs, our commands included

    dice = random.Random(10)
    for _ in range(10):
        asyncio.run(main())

    assert pool("p", max_size=1000).size() == 0


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("script", ["acquire", "release"])
@pytest.mark.parametrize("work", [in_pool, in_pooled], ids=["pool", "pooled"])
async def test_a_command_that_is_cancelled_itself_leaves_no_slot(cachify_on_redis, work, script, moment):
    meddled(cachify_on_redis, interrupting(script, moment, asyncio.CancelledError()))  # as asyncio.run does at its end

    with pytest.raises(asyncio.CancelledError):
        await work()

    assert await pool("p", max_size=1000).asize() == 0


async def test_a_coroutine_that_is_thrown_away_ends_in_silence_and_its_lease_ends(cachify_on_redis):
    reached = asyncio.Event()

    @pooled("p", max_size=2)
    async def body():
        reached.set()
        await asyncio.get_running_loop().create_future()

    coroutine = body()
    waited_for = coroutine.send(None)
    while not reached.is_set():
        await asyncio.sleep(0.001)
        if waited_for is None or waited_for.done():
            waited_for = coroutine.send(None)
    heart.beat()
    before = len(heart._slots)

    coroutine.close()

    assert await body.size() == 1
    heart.beat()
    assert len(heart._slots) == before - 1


# Signals


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Struck(), SystemExit(1), ValueError("a soft time limit")])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("script", ["acquire", "release"])
@pytest.mark.parametrize("form", ["with", "decorator", "generator"])
def test_a_signal_in_the_middle_of_a_command_leaves_no_slot(cachify, form, script, moment, error):
    meddled(cachify, interrupting(script, moment, error))
    p = pool("p", max_size=1)

    @pooled("p", max_size=1)
    def function():
        return p.size()

    @pooled("p", max_size=1)
    def generator():
        yield p.size()

    def use():
        if form == "with":
            with p:
                p.size()
        elif form == "decorator":
            function()
        else:
            list(generator())

    with pytest.raises(type(error)) as caught:
        use()

    assert caught.value is error
    assert p.size() == 0
    assert p._inside == {}
    use()
    assert p.size() == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_arrival_that_was_struck_bars_no_later_copy_of_its_message(cachify, moment):
    engine = cachify._engine
    meddled(cachify, interrupting("acquire", moment, Struck()))
    ask = dataclasses.replace(engine.ask("p", 1, None, ""), holder="task", fresh=False)

    with pytest.raises(Struck):
        engine.run(enter(engine, ask))

    slot = engine.run(enter(engine, dataclasses.replace(ask, rid="redelivered")))
    assert slot.holder == "task"
    engine.run(leave(engine, slot))


def test_a_signal_in_a_release_lets_the_bodys_result_be_lost_and_its_slot_be_free_once(cachify, caplog):
    meddled(cachify, interrupting("release", "after", Struck()))
    p = pool("p", max_size=2)
    with p:
        with pytest.raises(Struck), p:
            assert p.size() == 2

        assert p.size() == 1

    assert "lost" not in caplog.text


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an interval timer")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it strikes in finalizers too
@pytest.mark.parametrize("rounds", [1500])
@pytest.mark.parametrize("form", ["decorator", "with"])
def test_signals_at_random_moments_leave_no_slot(cachify, rounds, form):
    dice, armed, struck = random.Random(9), [False], 0
    p = pool("p", max_size=1000)

    def handle(*_):
        if armed[0]:
            armed[0] = False
            raise Struck

    @pooled("p", max_size=1000)
    def pooled_work():
        return None

    def work_in_pool():
        with p:
            pass

    work = pooled_work if form == "decorator" else work_in_pool
    for _ in range(50):
        work()
    began = time.perf_counter()
    for _ in range(50):
        work()
    one = (time.perf_counter() - began) / 50
    before = signal.signal(signal.SIGALRM, handle)
    try:
        for _ in range(rounds):
            try:
                armed[0] = True
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 1.2 * one))
                work()
                armed[0] = False
            except Struck:
                struck += 1
    finally:
        armed[0] = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert struck > rounds / 10
    if form == "decorator":
        assert p.size() == 0
    else:  # Python itself calls __exit__: what strikes as that begins, nobody can catch
        assert p.size() < rounds / 10
        while p._inside:
            p.__exit__(None, None, None)
        current.set(None)
        assert p.size() == 0


def test_a_thread_that_cannot_be_started_for_the_heart_leaves_no_slot(cachify, monkeypatch):
    heart.stop()

    def cannot(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", cannot)
        with pytest.raises(RuntimeError, match="can't start new thread"), pool("p", max_size=1):
            pass

    with pool("p", max_size=1) as slot:
        assert heart._thread is not None
        assert heart._thread.is_alive()
        slot.check()


# Event loops


def connections(client):
    return {row["id"] for row in client.client_list()}


def test_each_event_loop_has_its_own_connections_and_closes_them(redis_url):
    async def main():
        async with pool("p", max_size=1):
            pass

    with redis.Redis.from_url(redis_url) as client:
        before = connections(client)
        cachify = init_cachify(url=redis_url)
        for _ in range(12):
            asyncio.run(main())

        assert connections(client) <= before
    assert len(cachify._engine.store._loops) <= 1
    set_global_engine(None)


@pytest.mark.parametrize("pause", [0, 0.05])
def test_an_abandoned_async_generator_frees_its_slot_when_its_event_loop_ends(redis_url, pause):
    @pooled("p", max_size=1)
    async def numbers():
        try:
            for number in range(3):
                yield number
        finally:
            await asyncio.sleep(pause)

    async def main():
        kept.append(numbers())
        return await anext(kept[0])

    kept: list[Any] = []
    cachify = init_cachify(url=redis_url)
    with redis.Redis.from_url(redis_url) as client:
        before = connections(client)

        assert asyncio.run(main()) == 0

        assert connections(client) <= before
    assert pool("p", max_size=1).size() == 0
    cachify.close()
    set_global_engine(None)


async def test_closing_gives_back_every_connection_and_it_can_be_used_again(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        before = connections(client)
        cachify = init_cachify(url=redis_url, is_global=False)
        for _ in range(2):
            with cachify.pool("p", max_size=1):
                pass
            async with cachify.pool("p", max_size=1):
                pass
            cachify.close()
            await cachify.aclose()

            assert connections(client) <= before
