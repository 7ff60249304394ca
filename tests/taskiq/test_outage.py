"""While the store is out of reach a pooled task does what `on_store_error` says, and others go on."""

import asyncio
from functools import partial

import pytest
from taskiq import AsyncBroker
from taskiq.acks import AckableMessage
from taskiq.receiver import Receiver

from cachify_tasks import CachifyStoreError, Park, current_slot, pooled
from cachify_tasks.errors import CachifyError
from cachify_tasks.taskiq import CachifyMiddleware
from tests.support.waiting import await_until
from tests.taskiq.conftest import running


@pytest.fixture(params=["at start", "in between"])
def broken(request, make_bench, proxy):
    """Makes a bench whose store is out of reach until the proxy heals: when the worker starts, or later."""

    def cut():
        proxy.cut()
        proxy.refuse()

    def make(**settings):
        bench = make_bench(url=f"{proxy.url}?socket_timeout=0.2&socket_connect_timeout=0.2", **settings)
        if request.param == "at start":
            cut()
        assert bench.gate.accepting  # it has greeted the store, or tried to
        if request.param == "in between":
            cut()
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


def sync_task(bench):
    @bench.broker.task("sync")
    @pooled(key="p", max_size=1, on_full=Park())
    def task():
        return slot_or_none()

    return task


@pytest.mark.parametrize("settings", [{}, {"on_store_error": "retry"}], ids=["not given", "retry"])
@pytest.mark.parametrize("make_task", [pooled_task, sync_task])
async def test_tasks_wait_for_the_store_and_run_in_their_slots_when_it_is_back(broken, proxy, settings, make_task):
    bench = broken(**settings)
    task = make_task(bench)
    sent = [await bench.send(task) for _ in range(3)]
    await await_until(lambda: bench.gate._pausing == 3)
    assert (bench.acked, dict(bench.results.results)) == ([], {})

    proxy.heal()

    assert [(await bench.result(one)).return_value for one in sent] == ["p"] * 3
    await bench.wait_free()
    assert len(bench.acked) == 3


@pytest.mark.parametrize("make_task", [pooled_task, sync_task])
async def test_tasks_run_without_a_slot_where_the_settings_say_so(broken, make_task):
    bench = broken(on_store_error="run")

    sent = await bench.send(make_task(bench))

    result = await bench.result(sent)
    assert (result.error, result.return_value) == (None, None)
    await await_until(lambda: len(bench.acked) == 1)


async def test_tasks_fail_where_the_settings_say_so(broken):
    bench = broken(on_store_error="raise")

    sent = await bench.send(pooled_task(bench))

    assert isinstance((await bench.result(sent)).error, CachifyStoreError)
    await await_until(lambda: len(bench.acked) == 1)


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

    await await_until(lambda: bench.gate._pausing == 25 and not receiver.sem.locked())
    proxy.heal()
    await asyncio.gather(*waiting)
    await bench.wait_free()
    assert (receiver.sem._value, receiver.sem_prefetch._value) == (10, 10)


async def test_a_delivery_that_is_cancelled_while_it_waits_takes_its_places_back_first(broken):
    bench = broken()
    receiver = bench.receiver
    await receiver.sem_prefetch.acquire()
    await receiver.sem.acquire()
    await pooled_task(bench).kiq()
    waiting = bench.arrive()
    await await_until(lambda: bench.gate._pausing)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert (receiver.sem._value, receiver.sem_prefetch._value, bench.gate._pausing) == (9, 9, 0)


class ListBroker(AsyncBroker):
    """Delivers what a test gives it, in order."""

    def __init__(self):
        super().__init__()
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        self.acked = []

    async def kick(self, message):
        self.messages.put_nowait(message.message)

    async def listen(self):
        while True:
            data = await self.messages.get()
            yield AckableMessage(data=data, ack=partial(self.acked.append, data))


async def test_a_worker_of_two_places_runs_tasks_without_a_pool_while_thirty_wait_for_the_store(broken, proxy):
    bench = broken()
    broker = ListBroker().with_result_backend(bench.results)
    broker.add_middlewares(middleware := CachifyMiddleware(url=f"{proxy.url}?socket_timeout=0.2"))
    waits = broker.register_task(pooled_task(bench).original_func, task_name="waits")

    @broker.task("free")
    async def free():
        return "ran"

    receiver, finish = Receiver(broker, max_async_tasks=2, max_prefetch=2), asyncio.Event()
    listening = asyncio.create_task(receiver.listen(finish))
    sent = [await waits.kiq() for _ in range(30)]
    await await_until(lambda: middleware.gate(receiver)._pausing > 2)
    others = [await free.kiq() for _ in range(5)]

    assert [(await bench.result(one.task_id)).return_value for one in others] == ["ran"] * 5
    await await_until(lambda: len(broker.acked) == 5)
    proxy.heal()
    assert [(await bench.result(one.task_id)).return_value for one in sent] == ["p"] * 30
    await await_until(lambda: len(broker.acked) == 35)
    finish.set()
    await listening
    await broker.shutdown()


@pytest.fixture
async def bench(make_bench, proxy):
    made = make_bench(url=proxy.url)
    assert made.gate.accepting
    return made


async def test_a_task_whose_grant_is_lost_on_its_way_gets_it_when_it_asks_again(bench, proxy):
    task = pooled_task(bench)
    await bench.result(await bench.send(task))  # scripts are known to the server

    proxy.drop_replies(1, command="EVALSHA")
    sent = await bench.send(task)

    assert (await bench.result(sent)).return_value == "p"
    assert proxy.dropped == 1
    await bench.wait_free()


async def test_a_task_that_was_parked_unknown_to_its_worker_runs_once(bench, proxy):
    ran = []

    @bench.broker.task("counts")
    @pooled(key="p", max_size=1, on_full=Park())
    async def counts(number):
        ran.append(number)

    await bench.result(await bench.send(counts, 0))
    async with running(bench):
        proxy.drop_replies(1, command="EVALSHA")
        sent = await bench.send(counts, 1)
        await await_until(lambda: len(bench.acked) == 2)  # the first one's, and that of the parked one
        assert (proxy.dropped, bench.parked()) == (1, 1)

    await bench.result(sent)
    await bench.wait_free()
    assert ran == [0, 1]


async def test_a_release_whose_reply_is_lost_frees_the_slot_and_starts_the_heir_once(bench, proxy):
    ran = []

    @bench.broker.task("counts")
    @pooled(key="p", max_size=1, on_full=Park())
    async def counts():
        ran.append(1)

    await bench.result(await bench.send(counts))
    async with running(bench):
        sent = await bench.park(counts)
        proxy.drop_replies(1, command="EVALSHA")

    await bench.result(sent)
    await bench.wait_free()
    assert (len(ran), proxy.dropped) == (2, 1)


async def test_a_slot_that_a_cancelled_delivery_may_have_got_is_freed(bench, proxy):
    task = pooled_task(bench)
    await bench.result(await bench.send(task))
    proxy.blackhole()
    await task.kiq()
    asking = bench.arrive()
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    proxy.heal()

    following = await bench.send(task)
    assert (await bench.result(following)).return_value == "p"
    await bench.wait_free()


async def test_the_slot_of_a_run_that_ends_while_the_store_is_away_is_freed_when_it_is_back(bench, proxy):
    task = pooled_task(bench)
    async with running(bench):
        proxy.cut()
        proxy.refuse()
    await await_until(lambda: len(bench.acked) == 1)  # the run has ended

    proxy.heal()

    assert (await bench.result(await bench.send(task))).return_value == "p"
    await bench.wait_free()
