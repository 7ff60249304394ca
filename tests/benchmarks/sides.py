"""One side of a comparison of two commits: measures rows on request, with the package that its PYTHONPATH names.

Uses nothing but what both commits have in public, so that one file serves for both. It reads the name of a row from
standard input and answers with the seconds that one run of it took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from typing import Any

import cachify_tasks
from cachify_tasks import init_cachify, pool, pooled
from cachify_tasks.cachepool import CachePool
from cachify_tasks.pools import AdvancedPool, ConnectionPool

TRIPS = 400


class Side:
    """The rows; each method is one, and does one run of it."""

    def __init__(self, url: str) -> None:
        self.redis = init_cachify(url=url, is_global=False, prefix=f"bench-{sys.argv[2]}-")
        self.memory = init_cachify(is_global=True)
        self.loop = asyncio.new_event_loop()
        self.held: list[Any] = []
        self.connections: Any = None
        self.jobs: Any = None

    def trips_sync(self) -> None:
        entered = self.redis.pool("trips", max_size=1000)
        for _ in range(TRIPS):
            with entered:
                pass

    def trips_sync_with_100_holders(self) -> None:
        crowded = self.redis.pool("crowded", max_size=1000)
        while len(self.held) < 100:
            self.held.append(crowded.acquire(timeout=0))
        for _ in range(TRIPS):
            with crowded:
                pass

    def trips_async(self) -> None:
        entered = self.redis.pool("trips", max_size=1000)

        async def trips() -> None:
            for _ in range(TRIPS):
                async with entered:
                    pass

        self.loop.run_until_complete(trips())

    def trips_100_coroutines(self) -> None:
        entered = self.redis.pool("trips", max_size=1000)

        async def trip() -> None:
            for _ in range(4):
                async with entered:
                    pass

        async def trips() -> None:
            await asyncio.gather(*[trip() for _ in range(100)])

        self.loop.run_until_complete(trips())

    def memory_pool(self) -> None:
        entered = pool("memory", max_size=1000)
        for _ in range(2000):
            with entered:
                pass

    def memory_pooled_call(self) -> None:
        for n in range(2000):
            work(n % 20)

    def memory_pooled_coroutine(self) -> None:
        async def calls() -> None:
            for n in range(2000):
                await awork(n % 20)

        self.loop.run_until_complete(calls())

    def connection_pool_alone(self) -> None:
        async def takes() -> None:
            connections = await self._connections()
            for _ in range(4000):
                await connections.release(await connections.acquire())

        self.loop.run_until_complete(takes())

    def connection_pool_100_on_10(self) -> None:
        async def take(connections: Any) -> None:
            for _ in range(20):
                connection = await connections.acquire()
                await asyncio.sleep(0)
                await connections.release(connection)

        async def takes() -> None:
            connections = await self._connections()
            await asyncio.gather(*[take(connections) for _ in range(100)])

        self.loop.run_until_complete(takes())

    async def _connections(self) -> Any:
        if self.connections is None:
            self.connections = ConnectionPool(connection, minsize=1, maxsize=10)
            await self.connections.start()
        return self.connections

    def advanced_pool_burst(self) -> None:
        async def burst() -> None:
            jobs = await self._jobs()
            await asyncio.gather(*[jobs.submit_nowait(nothing, n) for n in range(5000)])

        self.loop.run_until_complete(burst())

    def advanced_pool_map(self) -> None:
        async def mapped() -> None:
            jobs = await self._jobs()
            await jobs.map(nothing, range(20_000))

        self.loop.run_until_complete(mapped())

    async def _jobs(self) -> Any:
        if self.jobs is None:
            self.jobs = await AdvancedPool(max_workers=4, keep_alive=60).__aenter__()
        return self.jobs

    def cache_pool_alone(self) -> None:
        things = CachePool(object, pool_size=4)
        for _ in range(10_000):
            things.put(things.get())

    def cache_pool_8_threads(self) -> None:
        things = CachePool(object, pool_size=8)

        def takes() -> None:
            for _ in range(2000):
                things.put(things.get())

        threads = [threading.Thread(target=takes) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pooled(key="call-{n}", max_size=1000)
def work(n: int) -> int:
    return n


@pooled(key="call-{n}", max_size=1000)
async def awork(n: int) -> int:
    return n


async def connection() -> object:
    return object()


def nothing(n: int) -> int:
    return n


ROWS: list[str] = [name for name, row in vars(Side).items() if not name.startswith("_") and callable(row)]


def main() -> None:
    side = Side(sys.argv[1])
    print(json.dumps(cachify_tasks.__file__), flush=True)
    for line in sys.stdin:
        run = getattr(side, line.strip())
        began = time.perf_counter()
        run()
        print(json.dumps(time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
