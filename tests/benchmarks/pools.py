"""The general pool: against two scripts that do nothing, and against py-cachify 3.1.0."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import py_cachify
import redis
import redis.asyncio

from cachify_tasks import Cachify, init_cachify
from cachify_tasks._core.commands import Acquire
from cachify_tasks.pooling import Pool

from .table import Table, paired

CALLS = 400
NOTHING = "return 1"


def per_call(function: Callable[[], object], calls: int = CALLS) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - began) / calls * 1e6

    return run


def fill(cachify: Cachify, pool: str, holders: int) -> None:
    store = cachify._runtime.store
    for start in range(0, holders, 1000):
        store.execute_many(
            [
                Acquire(
                    pool=pool,
                    holder=f"other-{n}",
                    request_id="r",
                    limit=20000,
                    lease_ms=3600000,
                    start_ms=1000,
                    first_delivery=True,
                )
                for n in range(start, min(start + 1000, holders))
            ]
        )


def bench_sync(table: Table, url: str) -> None:
    for holders in (0, 100, 10_000):
        with redis.Redis.from_url(url) as client:
            client.flushdb()
            sha = client.script_load(NOTHING)
            cachify = init_cachify(sync_client=client, is_global=False)
            fill(cachify, "bench", holders)
            pool = cachify.pool("bench", 20_000)

            def ours(pool: Pool = pool) -> None:
                with pool:
                    pass

            def nothing(client: Any = client, sha: str = sha) -> None:
                client.evalsha(sha, 0)
                client.evalsha(sha, 0)

            what = f"acquire + release, sync, {holders:,} holders / two no-op EVALSHA"
            table.add(paired(what, per_call(ours), per_call(nothing), unit="us", goal=1.25))


def bench_async(table: Table, url: str) -> None:
    async def measure(holders: int) -> None:
        client = redis.asyncio.Redis.from_url(url)
        await client.flushdb()
        sha = await client.script_load(NOTHING)
        cachify = init_cachify(async_client=client, is_global=False)
        fill(cachify, "bench", holders)
        pool = cachify.pool("bench", 20_000)

        async def ours() -> float:
            began = time.perf_counter()
            for _ in range(CALLS):
                async with pool:
                    pass
            return (time.perf_counter() - began) / CALLS * 1e6

        async def nothing() -> float:
            began = time.perf_counter()
            for _ in range(CALLS):
                await client.evalsha(sha, 0)
                await client.evalsha(sha, 0)
            return (time.perf_counter() - began) / CALLS * 1e6

        loop = asyncio.get_running_loop()

        def here(function: Callable[[], object]) -> Callable[[], float]:
            def run() -> float:
                return asyncio.run_coroutine_threadsafe(function(), loop).result()  # type: ignore[arg-type]

            return run

        what = f"acquire + release, async, {holders:,} holders / two no-op EVALSHA"
        table.add(await asyncio.to_thread(lambda: paired(what, here(ours), here(nothing), unit="us", goal=1.25)))
        await client.aclose()
        cachify.close()

    for holders in (0, 100, 10_000):
        asyncio.run(measure(holders))


def bench_reference(table: Table, url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        theirs = py_cachify.init_cachify(sync_client=client, prefix="REF-", is_global=False)
        ours = init_cachify(sync_client=client, is_global=False)

        def once(pool: object) -> Callable[[], None]:
            def enter() -> None:
                with pool:  # type: ignore[attr-defined]
                    pass

            return enter

        table.add(
            paired(
                "py-cachify 3.1.0 / ours, acquire + release",
                per_call(once(ours.pool("a", 3)), 200),
                per_call(once(theirs.pool("a", 3)), 200),
                unit="us",
                goal=4,
                better="high",
                upside_down=True,
            )
        )
        table.add(
            paired(
                "py-cachify 3.1.0 / ours, 32 tasks into 32 slots",
                lambda: burst(ours.pool("b", 32)),
                lambda: burst(theirs.pool("b", 32)),
                unit="ms",
                goal=20,
                better="high",
                upside_down=True,
                pairs=7,
            )
        )


def burst(pool: object, tasks: int = 32) -> float:
    """Threads that enter at once, each trying again at once when refused, until all are inside together."""
    start, inside = threading.Barrier(tasks + 1), threading.Barrier(tasks + 1)

    def enter() -> None:
        start.wait()
        while True:
            try:
                with pool:  # type: ignore[attr-defined]
                    inside.wait()
                    return
            except Exception as error:
                if type(error).__name__ != "CachifyPoolFullError":
                    raise

    threads = [threading.Thread(target=enter) for _ in range(tasks)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    inside.wait()
    took = (time.perf_counter() - began) * 1e3
    for thread in threads:
        thread.join()
    return took


def bench(table: Table, url: str) -> None:
    bench_sync(table, url)
    bench_async(table, url)
    bench_reference(table, url)
