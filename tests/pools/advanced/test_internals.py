"""Races that no test can force from outside: what is put while the loop drains, a worker called as time runs out."""

import asyncio
from concurrent.futures import Future
from typing import Any

from cachify_tasks.pools import AdvancedPool
from cachify_tasks.pools.advanced.jobs import Awaited
from cachify_tasks.pools.advanced.outbox import Outbox
from tests.support.waiting import await_until


class Chained(Awaited[None]):
    """Puts another one when it is settled, as a worker might at that moment."""

    outbox: Outbox
    other: Awaited[None]

    def settle(self, value, error):
        super().settle(value, error)
        self.outbox.put(self.other, None, None)


async def test_what_is_put_while_the_loop_drains_is_told_too():
    loop = asyncio.get_running_loop()
    outbox = Outbox(loop, lambda: None, lambda: None)
    first = Chained(loop=loop)
    second: Awaited[None] = Awaited(loop=loop)
    first.outbox, first.other = outbox, second

    outbox.put(first, 1, None)

    await asyncio.wait_for(asyncio.gather(first, second), 20)


async def test_a_worker_that_is_called_as_its_time_runs_out_takes_the_job_and_the_call():
    class Wake:
        """Its time is up; in that moment the worker is handed a job."""

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
        worker: Any = next(iter(pool._crew.workers))
        worker.wake = wake = Wake(worker.wake)
        await first

        await await_until(lambda: ran and ran[0].done())
        await await_until(lambda: not pool._crew.threads)
        assert ran[0].result() == 1
        assert worker.wake.real.locked()
        assert wake.waits == 2
