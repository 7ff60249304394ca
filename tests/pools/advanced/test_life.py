"""Waiting for a pool, and the ways in which it ends."""

import asyncio
import gc
import warnings
from typing import Any

import pytest

from cachify_tasks.pools import AdvancedPool, PoolFull, PoolShutDown
from tests.pools.advanced.conftest import workers
from tests.pools.advanced.support import Gate
from tests.support.waiting import await_until, wait_until


async def test_drain_waits_for_queued_and_running_calls():
    async with AdvancedPool(max_workers=1) as pool:
        await pool.drain()
        gate = Gate()
        futures = [pool.submit_nowait(gate), pool.submit_nowait(gate)]
        task = asyncio.create_task(pool.drain())
        await asyncio.to_thread(gate.wait_begun)
        assert not task.done()
        assert (pool.idle, pool.empty) == (False, False)
        gate.open()
        await task
        assert all(future.done() for future in futures)
        assert (pool.idle, pool.empty) == (True, True)


async def test_drain_ends_when_the_last_calls_are_cancelled_or_come_from_the_executor():
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        pool.as_executor().submit(gate)
        gate.wait_begun()
        queued = pool.submit_nowait(abs, 1)
        task = asyncio.create_task(pool.drain())
        await asyncio.sleep(0)
        queued.cancel()
        await await_until(lambda: not pool._scheduler.completions._scheduled)  # the loop has handled the cancellation
        gate.open()
        await asyncio.wait_for(task, 20)


async def test_wait_for_slot_waits_for_one_slot():
    async with AdvancedPool(max_workers=1, qsize=2) as pool:
        assert await pool.wait_for_slot() == 0.0
        gate = Gate()
        pool.submit_nowait(gate)
        gate.wait_begun()
        queued = [pool.submit_nowait(gate) for _ in range(2)]
        with pytest.raises(PoolFull, match=r"0\.01 s"):
            await pool.wait_for_slot(0.01)
        task = asyncio.create_task(pool.wait_for_slot())
        await await_until(lambda: pool.stats().waiting == 1)

        queued[0].cancel()

        assert await task > 0
        assert pool.qsize == 1
        pool.submit_nowait(abs, 1)
        gate.open()


async def test_a_slot_that_is_announced_and_not_used_goes_to_the_next_in_line():
    async with AdvancedPool(max_workers=1, qsize=1) as pool:
        gate = Gate()
        pool.submit_nowait(gate)
        gate.wait_begun()
        queued = pool.submit_nowait(abs, 1)
        announced = asyncio.create_task(pool.wait_for_slot())
        taken = asyncio.create_task(pool.submit(abs, -2))
        await await_until(lambda: pool.stats().waiting == 2)

        queued.cancel()

        await announced
        future = await taken
        gate.open()
        assert await future == 2


async def test_an_announced_slot_is_not_taken_by_a_later_caller():
    got: list[object] = []
    async with AdvancedPool(max_workers=1, qsize=1) as pool:
        gate = Gate()
        pool.submit_nowait(gate)
        gate.wait_begun()
        queued = pool.submit_nowait(abs, 1)

        async def late(n):
            await pool.submit(got.append, n)

        async def announced():
            await pool.wait_for_slot()

        tasks = [asyncio.create_task(announced()), asyncio.create_task(late("first"))]
        await await_until(lambda: pool.stats().waiting == 2)
        tasks.append(asyncio.create_task(late("second")))
        queued.cancel()
        gate.open()
        wait_until(lambda: pool._scheduler.idle)  # the loop is blocked: the slot is announced after "second" has come
        await asyncio.gather(*tasks)
        await pool.drain()
    assert got == ["first", "second"]


async def test_shutdown_finishes_submitted_calls():
    pool = AdvancedPool(max_workers=1)
    async with pool:
        futures = [pool.submit_nowait(abs, n) for n in range(100)]
    assert [future.result() for future in futures] == list(range(100))
    assert workers() == []
    assert await pool.shutdown() < 10
    up = pool.uptime
    assert up == pool.uptime > 0


async def test_shutdown_cancels_queued_calls_with_cancel_pending():
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        running, queued = pool.submit_nowait(gate, 1), pool.submit_nowait(gate, 2)
        gate.wait_begun()
        task = asyncio.create_task(pool.shutdown(cancel_pending=True))
        await asyncio.wait([queued])
        assert queued.cancelled()
        gate.open()
        assert await task > 0
        assert await running == 1


async def test_idle_timeout_cancels_queued_calls_and_waits_for_running_ones():
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        running, queued = pool.submit_nowait(gate, 1), pool.submit_nowait(gate, 2)
        gate.wait_begun()
        task = asyncio.create_task(pool.shutdown(idle_timeout=0.02))
        await asyncio.wait([queued])
        assert queued.cancelled()
        assert not running.done()
        assert not task.done()
        gate.open()
        assert await task >= 0.02
        assert await running == 1


async def test_total_timeout_cancels_running_calls_too():
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        running, queued = pool.submit_nowait(gate, 1), pool.submit_nowait(gate, 2)
        executor = pool.as_executor()
        gate.wait_begun()
        called = executor.submit(gate)
        assert 0.02 <= await pool.shutdown(total_timeout=0.02) < 10
        assert running.cancelled()
        assert queued.cancelled()
        assert called.cancelled()
        gate.open()


async def test_a_second_shutdown_may_have_a_shorter_timeout():
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        running = pool.submit_nowait(gate)
        gate.wait_begun()
        first = asyncio.create_task(pool.shutdown())
        await asyncio.sleep(0)
        await pool.shutdown(total_timeout=0)
        assert running.cancelled()
        assert not first.done()
        gate.open()
        await first


async def test_kill_at_exit_waits_for_nothing():
    async with AdvancedPool(max_workers=1, kill_at_exit=True) as pool:
        gate = Gate()
        running, queued = pool.submit_nowait(gate), pool.submit_nowait(gate)
        gate.wait_begun()
    assert running.cancelled()
    assert queued.cancelled()
    gate.open()


async def test_a_block_that_is_cancelled_at_its_end_leaves_nothing_pending():
    gate = Gate()
    futures: list[asyncio.Future[object]] = []

    async def block():
        async with AdvancedPool(max_workers=1) as pool:
            futures.extend(pool.submit_nowait(gate) for _ in range(3))
            gate.wait_begun()

    task = asyncio.create_task(block())
    await await_until(lambda: futures)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert all(future.cancelled() for future in futures)
    gate.open()


async def test_shutdown_fails_the_callers_in_line():
    async with AdvancedPool(max_workers=1, qsize=1) as pool:
        gate = Gate()
        pool.submit_nowait(gate)
        gate.wait_begun()
        pool.submit_nowait(gate)
        tasks = [asyncio.create_task(call) for call in (pool.submit(abs, 1), pool.map(abs, [1]), pool.wait_for_slot())]
        await await_until(lambda: pool.stats().waiting == 3)
        ending = asyncio.create_task(pool.shutdown())
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, PoolShutDown)
        gate.open()
        await ending


def test_a_loop_that_is_closed_first_leaves_nothing():
    gate = Gate()
    seen: dict[str, Any] = {}

    async def main():
        pool = seen["pool"] = AdvancedPool(max_workers=1)
        await pool.__aenter__()
        seen["futures"] = [pool.submit_nowait(gate) for _ in range(3)]
        gate.wait_begun()

    asyncio.run(main())
    gate.open()
    wait_until(lambda: not workers())

    assert all(future.done() for future in seen["futures"])
    assert gate.passed == 1
    assert asyncio.run(seen["pool"].shutdown()) < 20
    with pytest.raises(PoolShutDown, match="event loop was closed"):
        seen["pool"].raise_for_shutdown()


def test_a_pool_that_is_shut_down_after_its_loop_was_closed_ends():
    async def main():
        return await AdvancedPool(min_workers=2).__aenter__()

    pool = asyncio.run(main())
    asyncio.run(pool.shutdown())
    assert workers() == []


def test_a_forgotten_pool_ends_and_warns():
    async def main():
        pool = await AdvancedPool(max_workers=1).__aenter__()
        futures = [pool.submit_nowait(abs, n) for n in range(3)]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del pool
            gc.collect()
        assert [warning.category for warning in caught] == [ResourceWarning]
        await asyncio.wait(futures, timeout=20)
        assert all(future.done() for future in futures)

    asyncio.run(main())


def test_a_pool_that_was_never_started_ends_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool = AdvancedPool()
        assert asyncio.run(pool.shutdown()) == 0.0
        with pytest.raises(PoolShutDown):
            asyncio.run(pool.__aenter__())
        del pool
        gc.collect()
