"""map and its variants: order of results, kinds of iterables, errors, priorities; imap."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cachify_tasks.pools import AdvancedPool, PoolShutDown
from tests.pools.advanced.support import Gate
from tests.support.waiting import await_until


async def each(items):
    for item in items:
        await asyncio.sleep(0)
        yield item


def add(a, b=0, *, c=0):
    return a + b + c


def broken():
    yield 1
    yield 2
    raise LookupError("the source is broken")


async def test_map_gives_results_in_the_order_of_the_items():
    async with AdvancedPool() as pool:
        assert await pool.map(str, range(1000)) == [str(n) for n in range(1000)]
        assert await pool.map(str, []) == []
        assert await pool.map(add, [1, 2], itertools.count(10)) == [11, 13]
        assert pool.completed == 1002


async def test_map_takes_asynchronous_iterables_too():
    async with AdvancedPool() as pool:
        assert await pool.map(add, each([1, 2]), [10, 20, 30]) == [11, 22]
        assert await pool.map(str, each([1, 2])) == ["1", "2"]


@pytest.mark.parametrize("of", [iter, each], ids=["iterable", "asynchronous"])
@pytest.mark.parametrize(("one", "other"), [(2, 3), (3, 2), (0, 1)])
async def test_strict_iterables_are_of_one_length(of, one, other):
    ran = []
    async with AdvancedPool() as pool:
        with pytest.raises(ValueError, match=r"length|shorter|longer"):
            await pool.map(lambda *_: ran.append(1), of(range(one)), range(other), strict=True)
        assert await pool.map(add, of([1, 2]), [3, 4], strict=True) == [4, 6]
    assert not ran


async def test_the_other_maps_unpack_their_items():
    async with AdvancedPool() as pool:
        assert await pool.starmap(add, [(1,), (1, 2)]) == [1, 3]
        assert await pool.starmap(add, each([(1, 2)])) == [3]
        assert await pool.doublestarmap(add, [{"a": 1}, {"a": 1, "c": 5}]) == [1, 6]
        assert await pool.double_starmap(add, each([{"a": 2}])) == [2]
        assert await pool.starmap_with_kwds(add, [([1, 2], {"c": 3}), (each([4]), {})]) == [6, 4]


async def test_map_uses_all_workers():
    barrier = threading.Barrier(3, timeout=20)
    async with AdvancedPool(max_workers=3, min_workers=0) as pool:
        await pool.map(lambda _: barrier.wait(), range(3))
        assert pool.stats().workers == 3


async def test_the_first_error_ends_a_map_and_items_that_have_not_begun_are_not_run():
    ran = []

    def third_fails(n):
        ran.append(n)
        if n == 2:
            raise LookupError("the third")

    async with AdvancedPool(max_workers=1) as pool:
        with pytest.raises(LookupError, match="the third"):
            await pool.map(third_fails, range(100))
        assert await pool.complete(abs, -1) == 1
        assert pool.empty
    assert ran == [0, 1, 2]


async def test_a_cancelled_map_stops_at_its_next_item():
    async with AdvancedPool(max_workers=2) as pool:
        gate = Gate()
        task = asyncio.create_task(pool.map(gate, range(100)))
        await asyncio.to_thread(gate.wait_begun, 2)

        task.cancel()
        await asyncio.wait([task])
        assert pool.empty
        gate.open()
        await pool.drain()

    assert gate.passed == 2


async def test_a_map_that_is_too_late_stops():
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        with pytest.raises(TimeoutError):
            await pool.map(gate, range(3), timeout=0.01)
        gate.open()
    assert gate.passed <= 1


async def test_a_more_urgent_call_runs_between_two_items():
    ran = []
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()

        def item(n):
            if n == 0:
                gate()
            ran.append(n)

        task = asyncio.create_task(pool.map(item, range(3)))
        await asyncio.to_thread(gate.wait_begun)
        pool.submit_nowait(ran.append, "urgent", _priority_=-1)
        pool.submit_nowait(ran.append, "equal")
        gate.open()
        await task
        await pool.drain()

    assert ran == [0, "urgent", 1, 2, "equal"]


async def test_a_map_is_one_entry_of_a_full_queue():
    async with AdvancedPool(max_workers=1, qsize=1) as pool:
        gate = Gate()
        pool.submit_nowait(gate)
        gate.wait_begun()
        queued = pool.submit_nowait(abs, -1)
        task = asyncio.create_task(pool.map(abs, range(-100, 0)))
        await await_until(lambda: pool.stats().waiting == 1)
        gate.open()
        assert await task == list(range(100, 0, -1))
        assert await queued == 1


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
async def test_imap_takes_endless_iterables(how):
    async with AdvancedPool() as pool, contextlib.aclosing(getattr(pool, how)(abs, itertools.count())) as results:
        seen = [result async for result, _ in zip_async(results, range(50))]
        if how == "imap":
            assert seen == list(range(50))
        assert set(seen) <= set(range(70))


async def zip_async(results, numbers):
    for number in numbers:
        yield await anext(results), number


async def test_imap_unordered_gives_first_what_ends_first():
    async with AdvancedPool(max_workers=2) as pool:
        gate = Gate()
        results = pool.imap_unordered(lambda n: gate(n) if n == 0 else n, range(3))
        assert {await anext(results), await anext(results)} == {1, 2}
        gate.open()
        assert [last async for last in results] == [0]


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
async def test_imap_submits_no_more_than_ahead(how):
    taken = []

    def source():
        for n in range(10):
            taken.append(n)
            yield n

    async with AdvancedPool(max_workers=1) as pool:
        results = getattr(pool, how)(abs, source(), ahead=2)
        assert await anext(results) == 0
        assert len(taken) == 2
        assert [n async for n in results] == list(range(1, 10))


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
async def test_an_error_of_the_source_comes_after_the_results(how):
    async with AdvancedPool() as pool:
        results = getattr(pool, how)(abs, broken())
        assert {await anext(results), await anext(results)} == {1, 2}
        with pytest.raises(LookupError, match="broken"):
            await anext(results)


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
async def test_an_error_of_a_call_ends_the_iteration_and_cancels_the_rest(how):
    async with AdvancedPool(max_workers=1) as pool:
        results = getattr(pool, how)(lambda n: 1 / n, [1, 0, 1, 1, 1, 1], ahead=6)
        assert await anext(results) == 1
        with pytest.raises(ZeroDivisionError):
            await anext(results)
        await pool.drain()


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
async def test_an_iteration_that_is_left_cancels_calls_submitted_ahead(how):
    async with AdvancedPool(max_workers=1) as pool:
        gate = Gate()
        results = getattr(pool, how)(lambda n: n if n == 0 else gate(n), range(10), ahead=5)
        assert await anext(results) == 0
        await asyncio.to_thread(gate.wait_begun)
        await results.aclose()
        assert pool.empty
        gate.open()
    assert gate.passed == 1


@pytest.mark.parametrize("how", ["map", "imap", "imap_unordered"])
async def test_a_map_needs_an_iterable(how):
    async with AdvancedPool() as pool:
        with pytest.raises(TypeError, match="at least one iterable"):
            await (pool.map(abs) if how == "map" else anext(getattr(pool, how)(abs)))


async def test_a_closed_pool_reads_no_iterable():
    async with AdvancedPool() as pool:
        pass
    source: Iterator[Any] = iter([1, 2])
    for call in (pool.map, pool.starmap, pool.doublestarmap, pool.starmap_with_kwds):
        with pytest.raises(PoolShutDown):
            await call(abs, source)
    assert next(source) == 1
