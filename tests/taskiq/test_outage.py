"""While the store is out of reach a pooled task does what `on_store_error` says, and others go on."""

import asyncio

import pytest

from cachify_tasks import CachifyStoreError, Park, current_slot, pooled
from cachify_tasks.errors import CachifyError
from tests.support.waiting import await_until


@pytest.fixture
def broken(make_bench, proxy):
    """Makes a bench whose store is out of reach until the proxy heals."""

    def make(**settings):
        bench = make_bench(url=f"{proxy.url}?socket_timeout=0.2&socket_connect_timeout=0.2", **settings)
        assert bench.gate.accepting  # it has greeted the store
        proxy.cut()
        proxy.refuse()
        return bench

    return make


def slot_or_none():
    try:
        return current_slot().key
    except CachifyError:
        return None


def pooled_task(bench):
    @bench.broker.task("pooled")
    @pooled(key="p", max_size=1, on_full=Park())
    async def task():
        return slot_or_none()

    return task


async def test_tasks_wait_for_the_store_and_run_in_their_slots_when_it_is_back(broken, proxy):
    bench = broken()
    sent = await bench.send(pooled_task(bench))
    await await_until(lambda: bench.gate.core.outage.failing)

    proxy.heal()

    assert (await bench.result(sent)).return_value == "p"


async def test_tasks_run_without_a_slot_where_the_settings_say_so(broken):
    bench = broken(on_store_error="run")

    sent = await bench.send(pooled_task(bench))

    assert (await bench.result(sent)).return_value is None


async def test_tasks_fail_where_the_settings_say_so(broken):
    bench = broken(on_store_error="raise")

    sent = await bench.send(pooled_task(bench))

    assert isinstance((await bench.result(sent)).error, CachifyStoreError)


async def test_deliveries_that_wait_for_the_store_give_their_places_back(broken, proxy):
    bench = broken()
    receiver = bench.receiver
    task = pooled_task(bench)

    async def as_the_receiver_does(number):
        await receiver.sem_prefetch.acquire()
        await receiver.sem.acquire()
        await task.kiq()
        try:
            await bench.arrive()
        finally:
            receiver.sem.release()
            receiver.sem_prefetch.release()

    waiting = [asyncio.create_task(as_the_receiver_does(number)) for number in range(25)]  # of 10 places

    await await_until(lambda: bench.gate._pausing > 10 and not receiver.sem.locked())
    proxy.heal()
    await asyncio.gather(*waiting)
    await bench.wait_free()
    assert (receiver.sem._value, receiver.sem_prefetch._value) == (10, 10)
