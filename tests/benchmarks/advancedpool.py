"""AdvancedPool against the ways in which asyncio calls blocking functions: bursts, a map, one by one, memory.

The function does next to nothing, so that what is measured is the way there and back. py-asyncutils 1.3.4 (Python 3.12
and later) is asked for one result; where none comes back it has no figures.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiologic
import anyio.to_thread

from cachify_tasks.pools import AdvancedPool

from .table import Table, paired

WORKERS = 6  # of each pool: as many as asyncio's default executor has on two cores
MAPPED, SEQUENTIAL, PENDING = 10_000, 1_000, 10_000
PATIENCE = 3.0  # seconds for the one result of py-asyncutils

Side = Callable[[], Awaitable[object]]


def nothing(n: int) -> int:
    return n


class AiologicPool:
    """What its queues are for: threads that take calls out of one, and a task that takes results out of another."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.calls: Any = aiologic.SimpleQueue()
        self.results: Any = aiologic.SimpleQueue()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(WORKERS)]
        for thread in self.threads:
            thread.start()
        self.pump = loop.create_task(self.settle())

    def submit(self, function: Callable[..., object], *args: object) -> asyncio.Future[Any]:
        future = self.loop.create_future()
        self.calls.green_put((future, function, args))
        return future

    def work(self) -> None:
        while (call := self.calls.green_get()) is not None:
            future, function, args = call
            try:
                self.results.green_put((future, function(*args), None))
            except BaseException as error:  # noqa: BLE001  # as every pool does
                self.results.green_put((future, None, error))

    async def settle(self) -> None:
        while True:
            future, value, error = await self.results.async_get()
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

    async def burst(self, calls: int) -> None:
        await all_of([self.submit(nothing, n) for n in range(calls)])

    def end(self) -> None:
        self.pump.cancel()
        for _ in self.threads:
            self.calls.green_put(None)
        for thread in self.threads:
            thread.join()


async def all_of(futures: list[Any]) -> None:
    for future in futures:
        await future


class Sides:
    """What is compared, on one loop, all pools warm."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: AdvancedPool, aiologic_pool: AiologicPool) -> None:
        self.loop, self.pool, self.aiologic = loop, pool, aiologic_pool

    async def ours(self, calls: int) -> None:
        await all_of([self.pool.submit_nowait(nothing, n) for n in range(calls)])

    async def executor(self, calls: int) -> None:
        await all_of([self.loop.run_in_executor(None, nothing, n) for n in range(calls)])

    async def gathered(self, calls: int) -> None:
        await asyncio.gather(*(self.loop.run_in_executor(None, nothing, n) for n in range(calls)))

    async def to_thread(self, calls: int) -> None:
        await asyncio.gather(*(asyncio.to_thread(nothing, n) for n in range(calls)))

    async def anyio(self, calls: int) -> None:
        limiter = anyio.CapacityLimiter(WORKERS)
        await asyncio.gather(*(anyio.to_thread.run_sync(nothing, n, limiter=limiter) for n in range(calls)))

    async def mapped(self, calls: int) -> None:
        await self.pool.map(nothing, range(calls))

    async def ours_in_turn(self, calls: int) -> None:
        for n in range(calls):
            await self.pool.complete(nothing, n)

    async def executor_in_turn(self, calls: int) -> None:
        for n in range(calls):
            await self.loop.run_in_executor(None, nothing, n)

    def cost(self, side: Callable[[int], Awaitable[object]], calls: int) -> Callable[[], float]:
        """µs a call, measured from a thread beside the loop."""

        async def run() -> float:
            gc.collect()
            began = time.perf_counter()
            await side(calls)
            return (time.perf_counter() - began) / calls * 1e6

        return lambda: asyncio.run_coroutine_threadsafe(run(), self.loop).result()


async def bench_speed(table: Table) -> None:
    loop = asyncio.get_running_loop()
    aiologic_pool = AiologicPool(loop)
    async with AdvancedPool(max_workers=WORKERS, keep_alive=60) as pool:
        sides = Sides(loop, pool, aiologic_pool)
        rows: list[tuple[str, Any, Any, int, float | None, int]] = [
            *(
                (f"burst of {calls:,} calls, run_in_executor / ours", sides.executor, sides.ours, calls, goal, pairs)
                for calls, goal, pairs in ((1_000, 8, 9), (10_000, 8, 9), (100_000, 12, 3))
            ),
            ("burst of 10,000 calls, asyncio.to_thread / ours", sides.to_thread, sides.ours, 10_000, None, 5),
            ("burst of 10,000 calls, anyio.to_thread / ours", sides.anyio, sides.ours, 10_000, None, 5),
            ("burst of 10,000 calls, aiologic queues / ours", sides.aiologic.burst, sides.ours, 10_000, 2, 9),
            ("map of 10,000 items, gather(run_in_executor) / map", sides.gathered, sides.mapped, MAPPED, 50, 9),
            (
                "one after the other, run_in_executor / ours",
                sides.executor_in_turn,
                sides.ours_in_turn,
                SEQUENTIAL,
                1,
                9,
            ),
        ]
        for what, theirs, ours, calls, goal, pairs in rows:
            measure = partial(
                paired,
                what,
                sides.cost(ours, calls),
                sides.cost(theirs, calls),
                unit="us",
                goal=goal,
                better="high",
                upside_down=True,
                pairs=pairs,
            )
            table.add(await asyncio.to_thread(measure))
    aiologic_pool.end()


def pending_bytes(submit: Callable[[int], object], release: Callable[[], object]) -> float:
    """What one call takes that waits behind others."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    futures = [submit(n) for n in range(PENDING)]
    taken = (tracemalloc.get_traced_memory()[0] - before) / len(futures)
    tracemalloc.stop()
    release()
    return taken


async def bench_memory(table: Table) -> None:
    loop = asyncio.get_running_loop()

    async def ours() -> float:
        opened = threading.Event()
        async with AdvancedPool(max_workers=1) as pool:
            pool.submit_nowait(opened.wait)
            return pending_bytes(lambda n: pool.submit_nowait(nothing, n), opened.set)

    async def executor() -> float:
        opened = threading.Event()
        blocked = [loop.run_in_executor(None, opened.wait) for _ in range(32)]
        futures: list[Any] = []

        def submit(n: int) -> None:
            futures.append(loop.run_in_executor(None, nothing, n))

        taken = pending_bytes(submit, opened.set)
        await all_of([*blocked, *futures])
        return taken

    def here(side: Side) -> Callable[[], float]:
        return lambda: asyncio.run_coroutine_threadsafe(side(), loop).result()  # type: ignore[arg-type]

    what = "memory of a call that waits, run_in_executor / ours"
    measure = partial(
        paired, what, here(ours), here(executor), unit="B", goal=7, better="high", upside_down=True, pairs=3
    )
    table.add(await asyncio.to_thread(measure))


def bench_reference(table: Table) -> None:
    """One result of py-asyncutils, in a thread of its own: what does not end is left to itself."""
    try:
        pools = importlib.import_module("asyncutils.pools")
    except ImportError as error:
        table.notes.append(f"py-asyncutils: not here, it needs Python 3.12 ({error})")
        return
    answers: list[object] = []

    async def one() -> object:
        async with pools.AdvancedPool(max_workers=2) as pool:
            return await pool.complete(nothing, 7)

    def run() -> None:
        answers.append(asyncio.run(asyncio.wait_for(one(), PATIENCE)))

    thread = threading.Thread(target=run, daemon=True)
    threading.excepthook = lambda _: None
    thread.start()
    thread.join(PATIENCE + 2)
    threading.excepthook = threading.__excepthook__
    found = "works" if answers == [7] else f"gives no result in {PATIENCE:g} s"
    table.notes.append(f"py-asyncutils 1.3.4: await AdvancedPool().complete(f) {found}")


def bench(table: Table, _: str) -> None:
    asyncio.run(bench_speed(table))
    asyncio.run(bench_memory(table))
    bench_reference(table)
