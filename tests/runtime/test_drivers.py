"""The drivers: results and errors pass; each event loop has its own connections."""

import asyncio
import gc
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis

from cachify_tasks import init_cachify, pool, pooled
from cachify_tasks._core.commands import Size
from cachify_tasks._core.flows import CHECKPOINT, Run, Sleep
from cachify_tasks._redis.loop_clients import LoopClients
from cachify_tasks._runtime.drivers import adrive, drive
from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks._store.memory_store import MemoryStore
from cachify_tasks._store.redis_store import RedisStore
from tests.support.waiting import await_until, wait_until

COMMAND = Size("any")


def steps():
    size = yield COMMAND
    yield Sleep(0.001)
    yield CHECKPOINT
    result = yield Run(lambda a, b: (a, b), (size,), {"b": 2})
    return result


def connections(client):
    return {row["id"] for row in client.client_list()}


async def test_both_drivers_do_every_step():
    assert drive(steps(), MemoryStore()) == (0, 2)
    assert await adrive(steps(), MemoryStore()) == (0, 2)


async def test_an_error_of_a_step_is_thrown_into_the_flow():
    def flow():
        try:
            yield Run(int, ("no number",))
        except ValueError:
            return "seen"

    assert drive(flow(), MemoryStore()) == "seen"
    assert await adrive(flow(), MemoryStore()) == "seen"


async def test_an_error_of_the_flow_comes_out():
    def flow():
        yield CHECKPOINT
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        drive(flow(), MemoryStore())
    with pytest.raises(KeyError, match="mine"):
        await adrive(flow(), MemoryStore())


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


def test_each_event_loop_has_its_own_connections_and_closes_them(redis_url):
    async def main():
        async with pool("p", max_size=1):
            pass

    with redis.Redis.from_url(redis_url) as client:
        before = connections(client)
        init_cachify(url=redis_url)
        for _ in range(12):
            asyncio.run(main())

        wait_until(lambda: connections(client) <= before)
    set_global_runtime(None)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("closed", [True, False])
def test_an_event_loop_that_is_thrown_away_is_not_kept_nor_are_its_connections(redis_url, closed):
    def come_and_go():
        loop = asyncio.new_event_loop()
        loops.add(loop)
        loop.run_until_complete(store.aexecute(Size("p")))
        if closed:
            loop.close()

    store = RedisStore("p", redis_url)
    loops = weakref.WeakSet[asyncio.AbstractEventLoop]()
    with redis.Redis.from_url(redis_url) as client:
        before = connections(client)
        for _ in range(5):
            come_and_go()
        gc.collect()

        assert not loops
        wait_until(lambda: connections(client) <= before)
    store.close()


def test_event_loops_in_two_threads_may_begin_at_once():
    class Client:
        async def aclose(self):
            pass

    class Meeting(asyncio.SelectorEventLoop):
        def is_closed(self):
            if others:
                others.pop().result(5)
            return super().is_closed()

    async def visit():
        loops.current()

    async def begin():
        others.append(threads.submit(asyncio.run, visit()))  # it is met where this loop looks at the first one
        loops.current()

    loops, others = LoopClients(None, Client), list[Future[None]]()
    first = Meeting()
    first.run_until_complete(visit())
    with ThreadPoolExecutor(1) as threads:
        asyncio.run(begin())
    first.run_until_complete(first.shutdown_asyncgens())
    first.close()


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

        wait_until(lambda: connections(client) <= before)
    assert pool("p", max_size=1).size() == 0
    cachify.close()
    set_global_runtime(None)


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

            await await_until(lambda: connections(client) <= before)
