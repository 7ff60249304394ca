"""Many tasks, several threads that submit, cancellations and resizes at random: nothing is lost, nothing is left.

CACHIFY_CHAOS=full makes it 2,000,000 tasks. A failure names its seed: CACHIFY_SEED repeats it.
"""

import asyncio
import itertools
import os
import random
import threading
import time
from concurrent.futures import Future

import pytest

from cachify_tasks.pools import AdvancedPool, PoolFull
from tests.support.waiting import await_until

FULL = os.getenv("CACHIFY_CHAOS") == "full"
TASKS = 2_000_000 if FULL else 60_000
ROUNDS = 20_000 if FULL else 1_500
SEED = int(os.getenv("CACHIFY_SEED", "0")) or time.time_ns() % 10**9
LONG = pytest.mark.timeout(1_500 if FULL else 240)


def settled(pool: AdvancedPool) -> bool:
    scheduler = pool._scheduler
    all_idle = len(scheduler.idle) == len(scheduler.workers)
    return pool.idle and all_idle and not scheduler.line and not scheduler.completions.ready


def double(n: int) -> int:
    return 2 * n


@LONG
@pytest.mark.parametrize("qsize", [None, 50])
async def test_every_task_ends_once_no_matter_which_thread_submits_it(qsize):
    share = TASKS // 8
    ran = itertools.count()

    def run(n: int) -> int:
        next(ran)
        return 2 * n

    async with AdvancedPool(max_workers=4, min_workers=0, qsize=qsize, keep_alive=0.001) as pool:
        sums = []

        def thread() -> None:
            executor = pool.as_executor()
            total = 0
            for start in range(0, share, 1000):
                calls: list[Future[int]] = []
                while len(calls) < min(1000, share - start):
                    try:
                        calls.append(executor.submit(run, start + len(calls)))
                    except PoolFull:
                        time.sleep(0)
                total += sum(call.result(60) for call in calls)
            sums.append(total)

        async def task() -> None:
            total = 0
            for start in range(0, share, 1000):
                futures = [await pool.submit(run, n) for n in range(start, min(start + 1000, share))]
                for future in futures:
                    total += await future
            sums.append(total)

        async def resize() -> None:
            while True:
                least = random.randrange(4)
                await pool.resize(least, random.randrange(max(least, 1), 7))
                await asyncio.sleep(random.random() / 100)

        threads = [threading.Thread(target=thread) for _ in range(3)]
        for each in threads:
            each.start()
        resizing = asyncio.create_task(resize())
        await asyncio.gather(*(task() for _ in range(4)), pool.map(run, range(TASKS - 7 * share)))
        for each in threads:
            await asyncio.to_thread(each.join)
        resizing.cancel()
        await pool.drain()

        assert sums == [share * (share - 1)] * 7
        assert pool.completed == next(ran) == TASKS
        await await_until(lambda: settled(pool))


async def use(pool: AdvancedPool, kind: int, chance: random.Random) -> None:
    """One of six ways to wait for a pool."""
    match kind:
        case 0:
            assert await pool.complete(double, 3, _priority_=chance.randrange(3)) == 6
        case 1:
            assert await (await pool.submit(double, 4, _timeout_=chance.choice([None, 60]))) == 8
        case 2:
            assert await pool.map(double, range(5)) == [0, 2, 4, 6, 8]
        case 3:
            await pool.wait_for_slot()
            if not pool.full:
                pool.submit_nowait(double, 1).cancel()
        case 4:
            assert [n async for n in pool.imap(double, range(4))] == [0, 2, 4, 6]
        case 5:
            assert {n async for n in pool.imap_unordered(double, range(4), ahead=2)} == {0, 2, 4, 6}


@LONG
@pytest.mark.parametrize("qsize", [None, 1, 3])
async def test_cancellations_at_random_lose_no_wake_up(qsize):
    chance = random.Random(SEED)
    async with AdvancedPool(max_workers=3, min_workers=0, qsize=qsize, keep_alive=0.002) as pool:
        for _ in range(ROUNDS // 30):
            tasks = [asyncio.create_task(use(pool, chance.randrange(6), chance)) for _ in range(30)]
            for task in chance.sample(tasks, 12):
                await asyncio.sleep(chance.choice([0, 0, 0, 0.0001]))
                task.cancel()
            if chance.random() < 0.2:
                await pool.resize(0, chance.randrange(1, 5))
            done, late = await asyncio.wait(tasks, timeout=30)
            assert not late, f"seed {SEED}"
            for task in done:
                assert task.cancelled() or task.exception() is None, f"seed {SEED}: {task}"
        await pool.drain()
        await await_until(lambda: settled(pool), message=f"seed {SEED}")


@pytest.mark.parametrize("kind", range(6))
@pytest.mark.parametrize("qsize", [None, 1])
async def test_a_cancellation_at_every_await_leaves_the_pool_whole(kind, qsize):
    async with AdvancedPool(max_workers=1, qsize=qsize) as pool:
        for steps in range(30):
            others = [asyncio.create_task(pool.complete(double, n)) for n in range(3)]
            task = asyncio.create_task(use(pool, kind, random.Random(steps)))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            assert await asyncio.wait_for(asyncio.gather(*others), 20) == [0, 2, 4]
            await asyncio.wait([task])
        await pool.drain()
        await await_until(lambda: settled(pool))
