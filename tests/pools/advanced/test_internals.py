"""Races that no test can force from outside: a `put` while the loop delivers, a job as a worker's time runs out."""

import asyncio
from concurrent.futures import Future
from typing import Any

from cachify_tasks.pools import AdvancedPool
from cachify_tasks.pools.advanced.completions import Completions
from cachify_tasks.pools.advanced.jobs import PoolFuture
from tests.support.waiting import await_until


class Chained(PoolFuture[None]):
    """Puts another future when it is settled, as a worker might at that moment."""

    completions: Completions
    other: PoolFuture[None]

    def settle(self, value, error):
        super().settle(value, error)
        self.completions.put(self.other, None, None)


async def test_a_put_while_the_loop_delivers_is_delivered_too():
    loop = asyncio.get_running_loop()
    completions = Completions(loop, lambda: None)
    first = Chained(loop=loop)
    second: PoolFuture[None] = PoolFuture(loop=loop)
    first.completions = completions
    first.other = second

    completions.put(first, 1, None)

    await asyncio.wait_for(asyncio.gather(first, second), 20)


async def test_a_worker_that_is_woken_as_its_time_runs_out_takes_the_job_and_the_wake_up():
    class Wake:
        """Times out; at that moment the worker gets a job."""

        def __init__(self, real):
            self.real, self.waits = real, 0

        def acquire(self, timeout=None):
            if timeout is not None and timeout > 0:
                self.waits += 1
                if self.waits == 1:
                    ran.append(pool.as_executor().submit(abs, -1))
                return False
            return self.real.acquire() if timeout is None else self.real.acquire(timeout=timeout)

        def release(self):
            self.real.release()

    ran: list[Future[int]] = []
    async with AdvancedPool(max_workers=1, min_workers=0, keep_alive=5) as pool:
        first = pool.submit_nowait(lambda: None)
        worker: Any = next(iter(pool._scheduler.workers))
        worker.wake = wake = Wake(worker.wake)
        await first

        await await_until(lambda: ran and ran[0].done())
        await await_until(lambda: not pool._scheduler.threads)
        assert ran[0].result() == 1
        assert worker.wake.real.locked()
        assert wake.waits == 2
