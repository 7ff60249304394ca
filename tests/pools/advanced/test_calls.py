"""complete, submit, submit_nowait: results, the order in which calls run, and cancellation."""

import asyncio
import contextvars
import gc
import threading
import traceback
import weakref

import pytest

from cachify_tasks.pools import AdvancedPool, PoolFull
from tests.pools.advanced.support import Gate
from tests.support.waiting import await_until

user = contextvars.ContextVar("user", default="none")


class Thing:
    """An object that can be referenced weakly."""


class OutOfTheOrdinary(BaseException):
    pass


def failing(error: BaseException) -> None:
    raise error


async def test_a_call_runs_in_a_thread_with_its_arguments():
    async with AdvancedPool() as pool:
        thread = await pool.complete(threading.current_thread)
        assert thread is not threading.current_thread()
        assert await pool.complete(dict, [("a", 1)], b=2) == {"a": 1, "b": 2}
        assert await pool.complete(dict, f=1, self=2) == {"f": 1, "self": 2}


async def test_submit_gives_a_future():
    async with AdvancedPool() as pool:
        future = await pool.submit(pow, 2, 3)
        assert isinstance(future, asyncio.Future)
        assert await future == 8
        assert await pool.submit_nowait(pow, 2, 4) == 16


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), OutOfTheOrdinary("no"), asyncio.CancelledError("no")],
    ids=lambda error: type(error).__name__,
)
async def test_only_the_future_of_a_call_raises_its_exception(error):
    async with AdvancedPool(max_workers=1) as pool:
        futures = [pool.submit_nowait(failing, error), pool.submit_nowait(abs, -1)]

        with pytest.raises(type(error), match="no"):
            await futures[0]

        assert await futures[1] == 1
        assert pool.stats().failed == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_no_exception_ends_a_worker(kind):
    async with AdvancedPool(max_workers=1) as pool:
        future = pool.submit_nowait(failing, kind("no"))
        await pool.drain()

        assert isinstance(future.exception(), kind)
        assert await pool.complete(abs, -1) == 1
    assert await pool.join() == [2]


async def test_a_stop_iteration_is_a_runtime_error():
    async with AdvancedPool() as pool:
        with pytest.raises(RuntimeError, match="StopIteration") as raised:
            await pool.complete(next, iter(()))
    assert isinstance(raised.value.__cause__, StopIteration)


async def test_a_traceback_begins_in_the_called_function():
    async with AdvancedPool() as pool:
        future = pool.submit_nowait(failing, ValueError("no"))
        await asyncio.wait([future])

    error = future.exception()
    assert error is not None
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["failing"]


async def test_the_smaller_priority_runs_first_and_equals_in_the_order_of_arrival():
    ran: list[object] = []
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        pool.submit_nowait(gate)
        gate.wait_begun()

        for name, priority in [("a", 0), ("b", 5), ("c", -1), ("d", 0), ("e", -1)]:
            await pool.submit(ran.append, name, _priority_=priority)
        gate.open()
        await pool.drain()

    assert ran == ["c", "e", "a", "d", "b"]


async def test_a_full_queue_refuses_a_call_or_makes_it_wait():
    async with AdvancedPool(max_workers=1, qsize=1) as pool:
        gate = Gate()
        running = pool.submit_nowait(gate, "running")
        gate.wait_begun()
        queued = pool.submit_nowait(gate, "queued")
        assert pool.full
        assert pool.qsize == 1

        with pytest.raises(PoolFull, match="1 of 1 slots") as refused:
            pool.submit_nowait(gate)
        assert isinstance(refused.value, asyncio.QueueFull)
        waiting = asyncio.create_task(pool.submit(gate, "waited"))
        await await_until(lambda: pool.stats().waiting == 1)
        assert not waiting.done()

        gate.open()
        assert [await running, await queued, await (await waiting)] == ["running", "queued", "waited"]


async def test_submitters_get_slots_in_the_order_of_arrival():
    ran: list[object] = []
    async with AdvancedPool(max_workers=1, qsize=1) as pool:
        gate = Gate()
        pool.submit_nowait(gate)
        gate.wait_begun()
        pool.submit_nowait(ran.append, 0)

        waiting = [asyncio.create_task(pool.complete(ran.append, n)) for n in range(1, 30)]
        await await_until(lambda: pool.stats().waiting == 29)
        gate.open()
        await asyncio.gather(*waiting)

    assert ran == list(range(30))


async def test_a_submitter_that_is_cancelled_in_line_leaves_no_job():
    ran: list[object] = []
    async with AdvancedPool(max_workers=1, qsize=1) as pool:
        gate = Gate()
        pool.submit_nowait(gate)
        gate.wait_begun()
        pool.submit_nowait(ran.append, 0)
        waiting = [asyncio.create_task(pool.submit(ran.append, n)) for n in (1, 2)]
        await await_until(lambda: pool.stats().waiting == 2)

        waiting[0].cancel()
        await asyncio.wait([waiting[0]])
        assert pool.stats().waiting == 1
        gate.open()
        await waiting[1]

    assert ran == [0, 2]


async def test_a_queued_call_that_is_cancelled_is_not_run_and_its_slot_is_free_at_once():
    async with AdvancedPool(max_workers=1, qsize=2) as pool:
        gate = Gate()
        ran: list[object] = []
        pool.submit_nowait(gate)
        gate.wait_begun()
        queued = [pool.submit_nowait(ran.append, n) for n in range(2)]
        waiting = asyncio.create_task(pool.submit(ran.append, "waited"))
        await await_until(lambda: pool.stats().waiting == 1)

        assert queued[0].cancel()
        assert not queued[0].cancel()
        assert pool.stats().waiting == 0
        assert queued[1].cancel()
        assert pool.qsize == 1
        pool.submit_nowait(ran.append, "new")
        gate.open()
        await (await waiting)

    assert ran == ["waited", "new"]
    assert pool.stats().cancelled == 2


async def test_a_cancelled_task_cancels_its_call():
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        ran: list[object] = []
        pool.submit_nowait(gate)
        gate.wait_begun()
        task = asyncio.create_task(pool.complete(ran.append, 1))
        await await_until(lambda: pool.qsize == 1)

        task.cancel()
        await asyncio.wait([task])
        assert pool.empty
        gate.open()

    assert task.cancelled()
    assert ran == []


async def test_a_running_call_that_is_cancelled_drops_its_result():
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        future = pool.submit_nowait(gate)
        gate.wait_begun()

        assert future.cancel()
        gate.open()
        await pool.drain()

        assert future.cancelled()
        assert gate.passed == 1
        assert await pool.complete(abs, -1) == 1


async def test_many_cancelled_calls_leave_no_trace_in_the_queue():
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        pool.submit_nowait(gate)
        gate.wait_begun()
        kept = pool.submit_nowait(abs, -1)

        for _ in range(1000):
            pool.submit_nowait(abs, -2).cancel()
        gc.collect()
        alive = sum(type(thing) is type(kept) for thing in gc.get_objects())

        assert pool.qsize == 1
        assert alive < 200
        gate.open()
        assert await kept == 1


@pytest.mark.parametrize("way", ["result", "error", "cancelled"])
async def test_the_arguments_of_a_call_are_released(way):
    async with AdvancedPool(max_workers=1) as pool:
        gate, thing = Gate(), Thing()
        gone = weakref.ref(thing)
        pool.submit_nowait(gate)
        gate.wait_begun()
        future = pool.submit_nowait(int if way == "error" else id, thing)
        del thing

        if way == "cancelled":
            future.cancel()
        gate.open()
        await pool.drain()
        await asyncio.wait([future])

        assert future.cancelled() == (way == "cancelled")
        assert gone() is None


async def test_an_idle_worker_keeps_no_result():
    async with AdvancedPool(max_workers=1) as pool:
        gone = weakref.ref(await pool.complete(Thing))
        await pool.drain()
        await await_until(lambda: gone() is None)


async def test_a_call_has_the_context_of_its_caller_and_changes_only_a_copy():
    async with AdvancedPool(max_workers=1) as pool:
        user.set("ann")
        future = pool.submit_nowait(user.get)
        assert await pool.complete(user.set, "ben") is not None
        assert await future == "ann"
        assert await pool.complete(user.get) == "ann"
        assert await pool.map(lambda name: (user.get(), user.set(name))[0], ["x", "y"]) == ["ann", "ann"]


async def test_a_call_that_is_too_late_is_not_run():
    async with AdvancedPool(max_workers=1, qsize=1) as pool:
        gate = Gate()
        ran: list[object] = []
        late = pool.submit_nowait(gate, _timeout_=0.01)
        gate.wait_begun()
        never = pool.submit_nowait(ran.append, 1, _timeout_=0.01)

        for future in (late, never):
            with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
                await future
        assert pool.empty
        pool.submit_nowait(abs, 1)
        with pytest.raises(TimeoutError):
            await pool.submit(abs, 1, _timeout_=0.01)
        gate.open()

        assert await pool.complete(abs, -1, _timeout_=20) == 1
    assert ran == []


async def test_one_wake_up_delivers_a_whole_batch(monkeypatch):
    loop = asyncio.get_running_loop()
    calls: list[object] = []
    call = loop.call_soon_threadsafe

    def counted(*args):
        calls.append(args)
        return call(*args)

    async with AdvancedPool(max_workers=1) as pool:
        gate, last = Gate(), threading.Event()
        pool.submit_nowait(gate)
        gate.wait_begun()
        futures = [pool.submit_nowait(abs, n) for n in range(500)]
        futures.append(pool.submit_nowait(last.set))
        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)

        gate.open()
        assert last.wait(20)  # the loop is blocked in the meantime
        await asyncio.gather(*futures)
        monkeypatch.undo()

    assert 1 <= len(calls) <= 3


async def test_other_callbacks_of_the_loop_run_between_batches():
    async with AdvancedPool(max_workers=1) as pool:
        gate, last = Gate(), threading.Event()
        seen: list[int] = []
        pool.submit_nowait(gate)
        gate.wait_begun()
        futures = [pool.submit_nowait(abs, n) for n in range(5_000)]
        pool.submit_nowait(last.set)
        gate.open()
        assert last.wait(20)

        while not futures[-1].done():
            seen.append(sum(future.done() for future in futures))
            await asyncio.sleep(0)

    assert any(0 < count < 5_000 for count in seen)
