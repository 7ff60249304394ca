"""Checks that kill mutants for which no single test exists; each takes the things of a package that may be broken."""

from __future__ import annotations

import asyncio
import gc
import weakref

from tests.cachepool import test_threads
from tests.cachepool.things import Things


def storm(things: Things) -> None:
    test_threads.storm(things.package.CachePool, rounds=8_000)


def scramble(things: Things) -> None:
    for back in ("put", "close") * 20:
        test_threads.scramble(things.package.CachePool(test_threads.Thing), back)


def forget(things: Things) -> None:
    class Element:
        pass

    pool = things.package.CachePool(Element)
    element = pool.get()
    gone = weakref.ref(element)
    pool.put(element)
    pool.get()
    del element
    gc.collect()
    assert gone() is None
    closed = pool.get()
    pool.close(closed)
    assert not pool._records.known


def age(things: Things) -> None:
    pool = things.pool(max_idle=30)
    for _ in range(3):
        element = pool.get()
        pool.put(element)
    assert pool.stat["new"] == 1


def share(things: Things) -> None:
    pool = things.package.CachePool(lambda: "shared")
    for element in [pool.get() for _ in range(3)]:
        pool.put(element)


def begin_anew(things: Things) -> None:
    pool = things.package.AsyncCachePool(object)

    async def used() -> object:
        element: object = await pool.get()
        await pool.put(element)
        return element

    first, second = asyncio.run(used()), asyncio.run(used())
    assert first is not second
    assert pool.queue.qsize() == 1
