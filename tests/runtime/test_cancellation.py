"""A cancellation at any await leaves no slot behind."""

import asyncio
import random

import anyio
import pytest

from cachify_tasks import CachifyStoreError, init_cachify, pool, pooled
from cachify_tasks._core.commands import Size
from cachify_tasks._core.flows import CHECKPOINT
from cachify_tasks._runtime.drivers import adrive
from cachify_tasks._runtime.lease_renewer import lease_renewer
from cachify_tasks._store.memory_store import MemoryStore
from tests.support.meddling import interrupting, meddled
from tests.support.waiting import await_until

COMMAND = Size("any")


class SlowStore(MemoryStore):
    """Answers after a while, as a store at the other end of a network does."""

    local = False

    def __init__(self, error=None):
        super().__init__()
        self.entered, self.answer = asyncio.Event(), asyncio.Event()
        self.error = error

    def begin(self, command):
        return asyncio.ensure_future(self.aexecute(command))

    async def aexecute(self, command):
        self.entered.set()
        await self.answer.wait()
        if self.error:
            raise self.error
        return await super().aexecute(command)


async def in_pool():
    async with pool("p", max_size=1000):
        await asyncio.sleep(0.0005)


@pooled("p", max_size=1000)
async def in_pooled():
    await asyncio.sleep(0.0005)


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


async def test_a_caller_that_is_cancelled_twice_waits_no_longer_and_the_flow_goes_on():
    store, seen = SlowStore(), []

    def flow():
        try:
            seen.append((yield COMMAND))
            yield CHECKPOINT
        except asyncio.CancelledError:
            seen.append("cancelled")
            seen.append((yield COMMAND))
            raise

    task = asyncio.create_task(adrive(flow(), store))
    await store.entered.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == []

    store.answer.set()

    await await_until(lambda: len(seen) == 3)
    assert seen == [0, "cancelled", 0]


@pytest.mark.parametrize("step", ["acquire", "release"])
async def test_a_cancel_scope_of_anyio_is_left_at_once_and_the_slot_is_freed_later(proxy, step):
    loop, cachify = asyncio.get_running_loop(), init_cachify(url=f"{proxy.url}?socket_timeout=20", is_global=False)
    held = cachify.pool("p", max_size=1)
    async with held:
        pass

    with anyio.CancelScope() as scope:
        if step == "release":
            await held.__aenter__()
        proxy.blackhole()
        late = loop.call_later(5, proxy.heal)
        loop.call_soon(scope.cancel)
        await (held.__aenter__() if step == "acquire" else held.__aexit__(None, None, None))

    assert scope.cancelled_caught
    assert late.when() > loop.time()
    late.cancel()
    proxy.heal()
    await await_until(lambda: held.size() == 0)
    cachify.close()
    await cachify.aclose()


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
        await await_until(limit.expired)
        store.answer.set()

    limit = asyncio.timeout(0.01)
    answering = asyncio.create_task(answer_late())
    with pytest.raises(TimeoutError):
        async with limit:
            await adrive(flow(), store)
    await answering


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
    lease_renewer.renew_due()
    before = len(lease_renewer._slots)

    coroutine.close()

    assert await body.size() == 1
    lease_renewer.renew_due()
    assert len(lease_renewer._slots) == before - 1
