"""How a pool is used, and where it refuses: arguments, loops, threads, processes, the executor."""

import ast
import asyncio
import math
import os
import pickle
import sys
import threading
from concurrent import futures
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cachify_tasks import pools
from cachify_tasks.pools import AdvancedPool, AdvancedPoolStats, PoolError, PoolFull, PoolShutDown
from tests.pools.advanced.support import Gate
from tests.support.programs import run

ROOT = Path(__file__).parents[3]
FOLDER = Path(pools.__file__).parent / "advanced"


@pytest.mark.parametrize(
    "options",
    [
        {"max_workers": 0},
        {"max_workers": -1},
        {"min_workers": -1},
        {"min_workers": 3, "max_workers": 2},
        {"qsize": -1},
        {"keep_alive": -1},
        {"keep_alive": math.nan},
    ],
    ids=str,
)
def test_a_number_out_of_range_is_refused(options):
    with pytest.raises(ValueError, match="must be"):
        AdvancedPool(**options)


@pytest.mark.parametrize(
    "options",
    [{"max_workers": 1.5}, {"qsize": "3"}, {"min_workers": True}, {"initializer": 3}, {"keep_alive": "1"}],
    ids=str,
)
def test_a_value_of_a_wrong_type_is_refused(options):
    (name,) = options
    with pytest.raises(TypeError, match=name):
        AdvancedPool(**options)


@pytest.mark.parametrize("name", ["min_workers", "max_workers"])
@pytest.mark.parametrize("value", [10_001, 2**31, sys.maxsize])
def test_more_threads_than_a_machine_has_are_refused_at_once(name, value):
    with pytest.raises(ValueError, match=f"{name} must be an int from . to 10,000, not {value}"):
        AdvancedPool(**{name: value})


@pytest.mark.parametrize("name", ["scaling", "kill_at_exit"])
@pytest.mark.parametrize("value", [0, 1, None, "no"])
def test_a_flag_is_true_or_false(name, value):
    with pytest.raises(TypeError, match=f"{name} must be True or False, not {value!r}"):
        AdvancedPool(**{name: value})


async def test_a_flag_of_a_method_is_true_or_false():
    no: Any = "no"
    async with AdvancedPool() as pool:
        with pytest.raises(TypeError, match="strict must be True or False, not 'no'"):
            await pool.map(abs, [1], strict=no)
        with pytest.raises(TypeError, match="strict must be True or False, not 'no'"):
            await anext(pool.imap(abs, [1], strict=no))
        with pytest.raises(TypeError, match="cancel_pending must be True or False, not 'no'"):
            await pool.shutdown(cancel_pending=no)


@pytest.mark.parametrize("value", ["text", 5])
def test_the_arguments_of_the_initializer_are_a_list(value):
    with pytest.raises(TypeError, match=f"initargs must be a list or None, not {value!r}"):
        AdvancedPool(initializer=print, initargs=value)


def test_documented_arguments_may_be_given_by_position():
    pool = AdvancedPool(8, 2, 100, False, True)
    assert (pool.stats().max_workers, pool.stats().limit) == (8, 100)
    assert AdvancedPool(min_workers=9).stats().max_workers == 9
    assert AdvancedPool(qsize=0).stats().limit is None


async def test_invalid_calls_are_refused_and_leave_nothing():
    async with AdvancedPool() as pool:
        bads: list[Any] = [None, 3, "abs"]
        for bad in bads:
            with pytest.raises(TypeError, match="f must be a function, not"):
                pool.submit_nowait(bad)
        with pytest.raises(TypeError, match="priority must be an int, not 'abs'"):
            await pool.complete(abs, 1, _priority_=bads[-1])
        with pytest.raises(ValueError, match="_timeout_"):
            await pool.complete(abs, 1, _timeout_=-1)
        with pytest.raises(ValueError, match="timeout"):
            await pool.shutdown(total_timeout=-1)
        for least, most in [(2, 1), (-1, 1), (0, 0)]:
            with pytest.raises(ValueError, match="must be"):
                await pool.resize(least, most)
        assert pool.completed == 0
        assert await pool.complete(abs, -1, _timeout_=timedelta(seconds=20)) == 1


USES = {
    "submit_nowait": lambda pool: pool.submit_nowait(abs, 1),
    "submit": lambda pool: pool.submit(abs, 1),
    "complete": lambda pool: pool.complete(abs, 1),
    "map": lambda pool: pool.map(abs, [1]),
    "imap": lambda pool: anext(pool.imap(abs, [1])),
    "wait_for_slot": lambda pool: pool.wait_for_slot(),
    "resize": lambda pool: pool.resize(1, 1),
    "executor": lambda pool: pool.as_executor().submit(abs, 1),
}


async def use(pool, name):
    found = USES[name](pool)
    return await found if asyncio.iscoroutine(found) or hasattr(found, "__await__") else found


@pytest.mark.parametrize("name", USES)
async def test_a_pool_that_is_not_started_or_shut_down_refuses(name):
    pool = AdvancedPool()
    with pytest.raises(PoolError, match="async with"):
        await use(pool, name)
    async with pool:
        pool.raise_for_shutdown()
    with pytest.raises(PoolShutDown):
        await use(pool, name)
    with pytest.raises(PoolShutDown):
        pool.raise_for_shutdown()


def elsewhere(wait):
    return asyncio.run(wait())


@pytest.mark.parametrize("name", [name for name in USES if name != "executor"])
async def test_another_event_loop_is_refused(name):
    async with AdvancedPool() as pool:
        with pytest.raises(PoolError, match="event loop"):
            await asyncio.to_thread(lambda: asyncio.run(use(pool, name)))
        waits: list[Any] = [pool.drain, pool.join, pool.shutdown]
        for wait in waits:
            with pytest.raises(PoolError, match="event loop"):
                await asyncio.to_thread(elsewhere, wait)
        with pytest.raises(PoolError, match="as_executor"):
            await asyncio.to_thread(pool.submit_nowait, abs, 1)


async def test_a_pool_is_started_once():
    async with AdvancedPool() as pool:
        with pytest.raises(PoolError, match="already"):
            await pool.__aenter__()
        assert await pool.complete(abs, -1) == 1
    with pytest.raises(PoolShutDown):
        await pool.__aenter__()


async def test_join_and_drain_need_a_started_pool():
    waits: list[Any] = [AdvancedPool().join, AdvancedPool().drain]
    for wait in waits:
        with pytest.raises(PoolError, match="async with"):
            await wait()


def test_a_forked_child_is_refused_and_ends_without_a_warning():
    printed = run(
        """
        import asyncio, os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads: it is what is tested
        from cachify_tasks.pools import AdvancedPool, PoolError
        async def main():
            async with AdvancedPool() as pool:
                future = pool.submit_nowait(abs, -1)
                child = os.fork()
                if child == 0:
                    for use in (lambda: pool.submit_nowait(abs, 1), lambda: pool.as_executor().submit(abs, 1)):
                        try:
                            use()
                        except PoolError as error:
                            print(error, flush=True)
                    print(await pool.shutdown(), pool.idle, pool.qsize, flush=True)
                    del pool
                    os._exit(0)
                os.waitpid(child, 0)
                print(await future)
        asyncio.run(main())
        """
    )
    refused = "the pool belongs to the process that this one was forked from: make another one here"
    assert printed.splitlines() == [refused, refused, "0.0 True 0", "1"]


async def test_the_executor_is_for_any_thread():
    loop = asyncio.get_running_loop()
    async with AdvancedPool(max_workers=2) as pool:
        with pool.as_executor() as executor:
            assert isinstance(executor, futures.Executor)
            assert await loop.run_in_executor(executor, pow, 2, 3) == 8
            assert await asyncio.to_thread(lambda: list(executor.map(abs, range(-3, 0)))) == [3, 2, 1]
            failed = executor.submit(int, "x")
            assert isinstance(await asyncio.to_thread(failed.exception), ValueError)
        with pytest.raises(PoolShutDown, match="executor"):
            executor.submit(abs, 1)
        assert await pool.complete(abs, -1) == 1


async def test_a_queued_call_of_the_executor_can_be_cancelled_and_waited_for():
    async with AdvancedPool(max_workers=1, qsize=1) as pool:
        gate = Gate()
        executor = pool.as_executor()
        executor.submit(gate)
        gate.wait_begun()
        queued = executor.submit(abs, 1)
        with pytest.raises(PoolFull):
            executor.submit(abs, 1)

        assert queued.cancel()
        assert queued.cancel()
        assert futures.wait([queued], timeout=20).done == {queued}
        assert pool.empty
        other = executor.submit(abs, 1)
        executor.shutdown(wait=False, cancel_futures=True)
        assert other.cancelled()
        gate.open()


async def test_the_figures_of_a_pool():
    async with AdvancedPool(max_workers=1, qsize=2) as pool:
        gate = Gate()
        pool.submit_nowait(gate)
        gate.wait_begun()
        pool.submit_nowait(abs, 1)
        stats = pool.stats()
        assert stats == AdvancedPoolStats(1, 1, 1, 1, 2, 1, 0, 0, 0, 0, stats.uptime)
        assert 0 < stats.uptime < 60
        assert (pool.idle, pool.full, pool.empty, pool.qsize, pool.completed) == (False, False, False, 1, 0)
        assert "1 workers" in repr(pool)
        gate.open()
    assert (pool.completed, pool.stats().workers) == (2, 0)


def test_errors_survive_pickling():
    for kind in (PoolError, PoolFull, PoolShutDown):
        again = pickle.loads(pickle.dumps(kind("words")))
        assert (type(again), again.args) == (kind, ("words",))
        assert issubclass(kind, PoolError)
    assert issubclass(PoolFull, asyncio.QueueFull)


def test_names_are_imported_when_they_are_used():
    assert {"AdvancedPool", "PoolError"} <= set(dir(pools))
    with pytest.raises(AttributeError, match="no_such"):
        _ = pools.no_such
    code = (
        "import sys, cachify_tasks.pools as p; before = 'cachify_tasks.pools.advanced' in sys.modules; p.AdvancedPool;"
    )
    assert run(f"{code} print(before, 'cachify_tasks.pools.advanced' in sys.modules)") == "False True\n"


def test_nothing_but_the_standard_library_is_imported():
    names = set()
    for file in [*FOLDER.glob("*.py"), *FOLDER.parent.glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module).split(".")[0])
    assert names <= set(sys.stdlib_module_names)


async def test_a_thread_that_cannot_be_started_is_an_error(monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    async with AdvancedPool(min_workers=0) as pool:
        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(PoolError, match="can't start new thread"):
            pool.submit_nowait(abs, 1)
        monkeypatch.undo()
        assert await pool.complete(abs, -1) == 1
        assert os.getpid()
