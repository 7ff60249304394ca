"""A call that waits for another call of its own pool, while no worker is left: an error or a log line, not silence."""

import asyncio
import concurrent.futures

import pytest

from cachify_tasks.pools import AdvancedPool, PoolError
from cachify_tasks.pools.advanced import stalls
from tests.pools.advanced.support import WAIT_S, Gate
from tests.support.waiting import await_until


@pytest.mark.parametrize("ask", ["result", "exception"])
async def test_a_job_that_waits_for_its_own_pool_gets_an_error_that_names_both(ask):
    async with AdvancedPool(max_workers=1, name="images") as pool:
        executor = pool.as_executor()

        def outer():
            return getattr(executor.submit(divmod, 7, 2), ask)()

        with pytest.raises(PoolError) as refused:
            await asyncio.wait_for(pool.complete(outer), WAIT_S)

    assert str(refused.value) == (
        "the pool 'images' cannot run divmod: all its 1 workers wait for calls of this same pool; a call must not wait "
        "for another one of its own pool: await that one in the event loop, or use two pools"
    )


async def test_the_last_worker_that_waits_gets_the_error_and_the_others_their_results():
    async with AdvancedPool(max_workers=2, min_workers=2) as pool:
        executor = pool.as_executor()
        gate = Gate()

        def outer():
            gate()
            return executor.submit(abs, -1).result()

        calls = [pool.submit_nowait(outer) for _ in range(2)]
        await asyncio.to_thread(gate.wait_begun, 2)
        gate.open()
        outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), WAIT_S)

    assert sorted(map(str, outcomes))[0] == "1"
    assert all(outcome == 1 or isinstance(outcome, PoolError) for outcome in outcomes)


async def test_a_job_may_wait_for_another_one_while_a_worker_is_left():
    async with AdvancedPool(max_workers=2, scaling=False) as pool:
        executor = pool.as_executor()

        assert await pool.complete(lambda: executor.submit(abs, -1).result()) == 1
        assert await pool.complete(lambda: executor.submit(abs, -1).exception()) is None
        assert not pool._scheduler.waits


async def test_a_wait_with_a_timeout_ends_by_itself():
    async with AdvancedPool(max_workers=1) as pool:
        executor = pool.as_executor()

        with pytest.raises(TimeoutError):
            await pool.complete(lambda: executor.submit(abs, -1).result(0.01))


async def test_a_job_that_waits_for_its_pool_by_way_of_the_loop_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(stalls, "LOOK_S", 0.02)
    loop = asyncio.get_running_loop()
    inner: list[concurrent.futures.Future[int]] = []

    def resize_image():
        inner.append(asyncio.run_coroutine_threadsafe(pool.complete(abs, -1), loop))
        with pytest.raises(concurrent.futures.CancelledError):
            inner[0].result()

    async with AdvancedPool(max_workers=1, name="images") as pool:
        outer = pool.submit_nowait(resize_image)

        await await_until(lambda: caplog.records)

        inner[0].cancel()
        await outer
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "the pool 'images' stands still: all its 1 workers wait for futures, in "
        f"{resize_image.__qualname__}, while 1 calls are queued; "
        "a call must not wait for another one of its own pool: await that one in the event loop, or use two pools"
    )


async def test_a_pool_whose_calls_are_only_long_is_not_logged(monkeypatch, caplog):
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        calls = [pool.submit_nowait(gate) for _ in range(2)]
        await asyncio.to_thread(gate.wait_begun)
        assert pool._shutdown is not None

        for _ in range(3):
            pool._shutdown.watch._look()

        gate.open()
        await asyncio.gather(*calls)
    assert not caplog.records
