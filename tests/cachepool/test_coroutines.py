"""Cancellation and event loops: what only the async pool meets."""

import asyncio
import os
import random

import pytest

from cachify_tasks.cachepool import AsyncCachePool, AsyncCacheWrapper, CachePoolError, make_wrapper
from tests.cachepool.things import Thing

STORM = 20_000 if os.getenv("CACHIFY_CHAOS") == "full" else 1_500


class Slow:
    """Makes, checks and closes things, with an await in front and, where nothing can get lost by it, behind."""

    def __init__(self, **options):
        self.made: list[Thing] = []
        self.lent: set[int] = set()
        self.drawn = random.Random(7)
        self.pool = AsyncCachePool(self.make, close_callback=self.close, validator=self.valid, **options)
        self.wrapper = make_wrapper(self.pool, self.decide)

    async def make(self):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.made.append(Thing(len(self.made)))
        return self.made[-1]

    async def close(self, thing):
        assert not thing.closed
        thing.closed = True
        await asyncio.sleep(0)

    async def valid(self, thing):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return thing.number % 3 != 2

    async def decide(self, *error):
        await asyncio.sleep(0)
        return random.random() < 0.5

    async def use(self):
        async with self.wrapper() as thing:
            assert not thing.closed
            assert thing.number not in self.lent
            self.lent.add(thing.number)
            try:
                await asyncio.sleep(0)
                if thing.number % 5 == 4:
                    raise KeyError
                await asyncio.sleep(0)
            finally:
                self.lent.discard(thing.number)

    def check(self):
        """Every thing is idle or closed, none is lost."""
        assert len([thing for thing in self.made if not thing.closed]) == self.pool.queue.qsize()
        assert self.pool.stat["new"] == len(self.made)


@pytest.mark.parametrize("number", range(12))
async def test_cancelled_at_any_await_a_call_loses_nothing(number):
    """Element 0 is kept, 2 is refused by the validator, 4 ends in an error; the pool has room for one."""
    for kind in range(6):
        slow = Slow(pool_size=1)
        for _ in range(kind):
            lent = [await slow.pool.get() for _ in range(2)]
            for thing in lent:
                await slow.pool.put(thing)
        task = asyncio.create_task(slow.use())
        for _ in range(number):
            await asyncio.sleep(0)

        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        slow.check()
        await slow.pool.close_all()
        assert all(thing.closed for thing in slow.made)


async def test_cancelled_at_random_many_calls_lose_nothing():
    slow = Slow(pool_size=4, max_idle=60)
    drawn = slow.drawn
    for _ in range(STORM // 50):
        tasks = [asyncio.create_task(slow.use()) for _ in range(50)]
        for task in tasks:
            for _ in range(drawn.randrange(3)):
                await asyncio.sleep(0)
            if drawn.random() < 0.5:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} <= {type(None), KeyError, asyncio.CancelledError}
        assert slow.pool.queue.qsize() <= 4
        slow.check()

    await slow.pool.close_all()

    assert all(thing.closed for thing in slow.made)


async def test_a_put_that_is_cancelled_while_it_closes_has_closed():
    slow = Slow(pool_size=1)
    first, second = await slow.pool.get(), await slow.pool.get()
    await slow.pool.put(first)
    task = asyncio.create_task(slow.pool.put(second))
    await asyncio.sleep(0)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert second.closed
    slow.check()


async def test_sync_functions_are_taken_too():
    closed: list[object] = []
    pool = AsyncCachePool(Thing, [1], close_callback=closed.append, validator=lambda thing: True)
    thing = await pool.get()
    await pool.put(thing)

    assert await pool.get() is thing

    await pool.close(thing)
    assert closed == [thing]


async def test_tasks_in_one_wrapper_have_an_element_each():
    wrapper = AsyncCacheWrapper(AsyncCachePool(object))
    seen = []

    async def use():
        async with wrapper as element:
            await asyncio.sleep(0)
            assert wrapper.element is element
            seen.append(element)

    await asyncio.gather(use(), use())

    assert seen[0] is not seen[1]
    assert wrapper.element is None


def test_a_pool_whose_event_loop_was_closed_begins_anew():
    pool = AsyncCachePool(object)

    async def used():
        element = await pool.get()
        await pool.put(element)
        return id(element), pool.stat.copy()

    first, second = asyncio.run(used()), asyncio.run(used())

    assert first[1] == second[1] == {"new": 1, "get": 1, "put": 1}


async def test_another_event_loop_is_refused_while_the_first_is_open():
    pool = AsyncCachePool(object)
    await pool.get()

    with pytest.raises(CachePoolError, match="belongs to another event loop"):
        await asyncio.to_thread(asyncio.run, pool.get())


async def test_an_element_that_outlives_its_event_loop_is_neither_kept_nor_closed():
    closed: list[object] = []
    pool = AsyncCachePool(object, close_callback=closed.append)
    element = await asyncio.to_thread(asyncio.run, pool.get())

    await pool.put(element)

    assert pool.queue.qsize() == 0
    assert closed == []
