"""Pools without a task framework: threads, coroutines and processes share them through Redis.

Run it: `python examples/plain_pool.py`. What to see:

- `with pool(...)`: the third entry into a pool of two raises CachifyPoolFullError, which names the pool;
- `@pooled` on a function that eight threads call: three run, five get the result of `on_full`;
- `async with`, and `@pooled` on a coroutine function, use the same pools.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from cachify_tasks import CachifyPoolFullError, Drop, current_slot, init_cachify, pool, pooled
from cachify_tasks.testing.server import EmbeddedServer


@pooled(key="thumbnails-{size}", max_size=3, on_full=Drop(result="busy"))
def thumbnail(size: int) -> str:
    time.sleep(0.5)  # the work
    return f"made in {current_slot().key}"


@pooled(key="fetch-{host}", max_size=2, on_full=lambda host, path: f"{path}: later")
async def fetch(host: str, path: str) -> str:
    await asyncio.sleep(0.5)
    return f"{path}: fetched"


def with_a_context_manager() -> None:
    reports = pool("reports", max_size=2)
    with reports, reports as slot:
        print(f"{reports.size()} held; this slot's fencing token is {slot.token}")
        try:
            with pool("reports", max_size=2):  # another object, the same name: the same pool
                print("never printed")
        except CachifyPoolFullError as full:
            print(f"full: {full.held} of {full.limit} of {full.key!r}")
    print(f"{reports.size()} held after the block")


def with_threads() -> None:
    together = Barrier(8)

    def call(_: int) -> str:
        together.wait()
        return thumbnail(64) or ""

    with ThreadPoolExecutor(8) as threads:
        print(sorted(threads.map(call, range(8))))


async def with_coroutines() -> None:
    print(await asyncio.gather(*(fetch("example.org", path) for path in ("/a", "/b", "/c"))))
    async with pool("fetch-example.org", max_size=2):
        print("held by this coroutine:", await fetch.size("example.org", "/a"))


if __name__ == "__main__":
    with EmbeddedServer() as server:  # or the URL of your own: redis://localhost:6379/0
        cachify = init_cachify(url=server.url)
        with_a_context_manager()
        with_threads()
        asyncio.run(with_coroutines())
        cachify.close()
