"""Workers that start and end, that crash, and whose initializer fails."""

import asyncio
import ctypes
import threading

import pytest

from cachify_tasks.pools import AdvancedPool, PoolError
from cachify_tasks.pools.advanced.scheduler import Worker
from tests.pools.advanced.conftest import workers
from tests.pools.advanced.support import Gate
from tests.support.waiting import await_until


async def test_there_are_one_to_five_workers_by_default():
    async with AdvancedPool() as pool:
        assert len(workers()) == 1
        gate = Gate()
        futures = [pool.submit_nowait(gate) for _ in range(9)]
        gate.wait_begun(5)
        assert (pool.stats().workers, pool.stats().busy, pool.qsize) == (5, 5, 4)
        gate.open()
        await asyncio.gather(*futures)


async def test_workers_are_started_when_there_is_work_and_end_when_there_is_none():
    async with AdvancedPool(max_workers=3, min_workers=0, keep_alive=0.05) as pool:
        assert workers() == []
        gate = Gate()
        futures = [pool.submit_nowait(gate) for _ in range(3)]
        gate.wait_begun(3)
        gate.open()
        await asyncio.gather(*futures)
        await await_until(lambda: not workers())
        assert await pool.complete(abs, -1) == 1


async def test_an_idle_worker_is_used_before_another_is_started():
    async with AdvancedPool() as pool:
        for _ in range(20):
            await pool.complete(abs, 1)
            await pool.drain()
            await await_until(lambda: len(pool._scheduler.idle) == 1)
        assert pool.stats().workers == 1


async def test_without_scaling_there_are_always_the_most():
    async with AdvancedPool(max_workers=3, scaling=False, keep_alive=0) as pool:
        await pool.complete(abs, 1)
        assert len(workers()) == 3
        await pool.resize(1, 2)
        await await_until(lambda: len(workers()) == 2)


async def test_resize_starts_and_ends_workers():
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        futures = [pool.submit_nowait(gate) for _ in range(4)]
        gate.wait_begun()

        await pool.resize(2, 4)
        gate.wait_begun(3)
        assert pool.stats().workers == 4
        await pool.resize(1, 1)
        gate.open()
        await asyncio.gather(*futures)
        await await_until(lambda: len(workers()) == 1)
        assert await pool.complete(abs, -1) == 1


async def test_resize_ends_surplus_workers_that_run_a_map():
    async with AdvancedPool(max_workers=2, min_workers=2) as pool:
        gate = Gate()
        task = asyncio.create_task(pool.map(gate, range(20)))
        await asyncio.to_thread(gate.wait_begun, 2)
        await pool.resize(1, 1)
        gate.open()
        await task
        await await_until(lambda: len(workers()) == 1)


async def test_join_gives_the_calls_of_each_worker():
    pool = AdvancedPool(max_workers=2, min_workers=2)
    async with pool:
        joined = asyncio.create_task(pool.join())
        gate = Gate()
        futures = [pool.submit_nowait(gate) for _ in range(2)]
        gate.wait_begun(2)
        gate.open()
        await asyncio.gather(*futures)
        assert not joined.done()
    assert await joined == await pool.join() == [1, 1]


async def test_a_worker_that_is_ended_from_outside_fails_only_its_call(monkeypatch):
    def crash(*_, **__):
        monkeypatch.undo()
        raise LookupError("from outside")

    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        lost, queued = pool.submit_nowait(gate), pool.submit_nowait(abs, -1)
        gate.wait_begun()
        monkeypatch.setattr(Worker, "count", crash)
        gate.open()
        with pytest.raises(PoolError, match="from outside"):
            await lost
        assert await queued == 1
    assert {str(record) for record in await pool.join()} == {"from outside", "1"}


async def test_a_worker_that_crashes_is_replaced():
    def crash(*_, **__):
        setattr(Worker, "count", real)  # noqa: B010  # a method
        raise LookupError("from outside")

    real = Worker.count
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        lost, queued = pool.submit_nowait(gate), pool.submit_nowait(abs, -1)
        gate.wait_begun()
        setattr(Worker, "count", crash)  # noqa: B010
        gate.open()
        assert await queued == 1
        assert isinstance(lost.exception(), PoolError)


async def test_an_asynchronous_exception_in_a_call_fails_only_that_call():
    async with AdvancedPool(max_workers=1) as pool:
        ident, stop = [], threading.Event()

        def spin():
            ident.append(threading.get_ident())
            while not stop.is_set():
                pass

        future = pool.submit_nowait(spin)
        await await_until(lambda: ident)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident[0]), ctypes.py_object(LookupError))
        with pytest.raises(LookupError):
            await future
        stop.set()
        assert await pool.complete(abs, -1) == 1


async def test_an_initializer_runs_first_in_each_worker():
    local = threading.local()

    def begin(value):
        local.value = value

    async with AdvancedPool(max_workers=2, initializer=begin, initargs=("x",)) as pool:
        barrier = threading.Barrier(2, timeout=20)
        assert await pool.map(lambda _: (barrier.wait(), local.value)[1], range(2)) == ["x", "x"]


async def test_a_worker_that_gets_a_job_before_it_is_ready_rests_afterwards():
    gate = Gate()
    async with AdvancedPool(max_workers=1, initializer=gate) as pool:
        gate.wait_begun()
        future = pool.submit_nowait(abs, -1)
        gate.open()
        assert await future == 1
        await await_until(lambda: pool._scheduler.idle)
        assert pool._scheduler.idle[0].wake.locked()


async def test_a_failing_initializer_fails_all_waiting_calls():
    gate = Gate()

    def begin():
        gate()
        raise LookupError("no licence")

    async with AdvancedPool(max_workers=1, initializer=begin) as pool:
        futures = [pool.submit_nowait(abs, 1), pool.submit_nowait(abs, 1)]
        mapped = asyncio.create_task(pool.map(abs, [1, 2]))
        called = pool.as_executor().submit(abs, 1)
        await await_until(lambda: pool.qsize == 3)
        gate.open()
        for error in await asyncio.gather(*futures, mapped, return_exceptions=True):
            assert isinstance(error, PoolError)
            assert str(error) == "the pool's initializer has failed: LookupError('no licence')"
            assert isinstance(error.__cause__, LookupError)
        assert isinstance(called.exception(20), PoolError)
        with pytest.raises(PoolError, match="no licence"):
            pool.submit_nowait(abs, 1)
    (record,) = await pool.join()
    assert isinstance(record, LookupError)
