"""What goes wrong in py-cachify 3.1.0 and must not here; one number a kind of defect."""

import asyncio
import contextvars
import gc
import threading
import time
import tracemalloc

import pytest
import redis

from cachify_tasks import CachifyPoolFullError, current_slot, init_cachify, pool, pooled
from cachify_tasks._core.keys import Schema
from cachify_tasks._io.engine import set_global_engine
from cachify_tasks._io.heart import heart
from tests.support.leaks import keys_without_ttl
from tests.support.programs import run
from tests.support.waiting import wait_until

# 1: one pool object used more than once at a time


def test_defect_1_a_pool_object_entered_again_inside_itself_leaks_no_slot(cachify):
    p = pool("p", max_size=3)

    with p, p:
        assert p.size() == 2

    assert p.size() == 0


def test_defect_1_a_recursive_function_in_a_pool_leaks_no_slot(cachify):
    @pooled("p", max_size=5)
    def countdown(n):
        return countdown(n - 1) if n else pool("p", max_size=5).size()

    assert countdown(4) == 5
    assert countdown(5) is None
    assert countdown.size(0) == 0


def test_defect_1_a_pool_object_shared_by_threads_leaks_no_slot(cachify):
    p, together = pool("p", max_size=8), threading.Barrier(8, timeout=60)
    sizes = []

    def work():
        for _ in range(5):
            with p:
                together.wait()
                sizes.append(p.size())
                together.wait()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sizes == [8] * 40
    assert p.size() == 0


async def test_defect_1_a_pool_object_shared_by_tasks_leaks_no_slot(cachify):
    p = pool("p", max_size=20)

    async def work(n):
        async with p:
            await asyncio.sleep(0.001 * (n % 3))

    await asyncio.gather(*(work(n) for n in range(20)))

    assert await p.asize() == 0


async def test_defect_1_a_pool_entered_in_one_task_and_left_in_another_leaks_no_slot(cachify):
    p = pool("p", max_size=2)
    await asyncio.create_task(p.__aenter__())
    assert await p.asize() == 1

    await asyncio.create_task(p.__aexit__(None, None, None))

    assert await p.asize() == 0


def test_defect_1_a_pool_entered_in_one_thread_and_left_in_another_leaks_no_slot(cachify):
    p = pool("p", max_size=2)
    thread = threading.Thread(target=p.__enter__)
    thread.start()
    thread.join()
    assert p.size() == 1

    contextvars.Context().run(p.__exit__, None, None, None)

    assert p.size() == 0


# 2 and 3: leases


@pytest.fixture
def short(cachify):
    cachify._engine.lease_ms = 1200
    yield cachify
    heart.stop()


def test_defect_2_work_longer_than_its_lease_lets_no_more_run(short):
    inside, most, ran, lock = 0, 0, 0, threading.Lock()

    @pooled("p", max_size=2)
    def work():
        nonlocal inside, most, ran
        with lock:
            inside, ran = inside + 1, ran + 1
            most = max(most, inside)
        time.sleep(2)
        with lock:
            inside -= 1

    def insist():
        until = time.monotonic() + 3
        while time.monotonic() < until:
            work()
            time.sleep(0.01)

    threads = [threading.Thread(target=insist) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 2
    assert ran >= 4


def test_defect_3_a_holder_that_has_expired_frees_nobody_elses_slot(cachify):
    p = pool("p", max_size=1, slot_exp=0.1)
    other = pool("p", max_size=1)
    first = contextvars.copy_context()
    first.run(p.__enter__)
    wait_until(lambda: p.size() == 0)
    with other:
        first.run(p.__exit__, None, None, None)

        assert other.size() == 1
        with pytest.raises(CachifyPoolFullError), p:
            pass
    assert other.size() == 0


# 4: clocks of clients


@pytest.mark.parametrize("skew", [-601, 601, 10**8])
def test_defect_4_a_client_whose_clock_is_wrong_gets_no_slot_too_many(redis_url, skew):
    cachify = init_cachify(url=redis_url, is_global=False)
    with cachify.pool("p", max_size=1) as slot:
        said = run(
            """
            import sys, time
            real, real_ns, skew = time.time, time.time_ns, float(sys.argv[2])
            time.time = lambda: real() + skew
            time.time_ns = lambda: real_ns() + int(skew * 1e9)
            from cachify_tasks import CachifyPoolFullError, init_cachify, pool
            init_cachify(url=sys.argv[1])
            try:
                with pool("p", max_size=1):
                    print("let in")
            except CachifyPoolFullError:
                print("full, size", pool("p", max_size=1).size())
            """,
            redis_url,
            str(skew),
        )

        assert said == "full, size 1\n"
        slot.check()
    cachify.close()


def test_defect_4_a_lease_taken_by_a_wrong_clock_ends_when_the_server_says(redis_url):
    cachify = init_cachify(url=redis_url, is_global=False)
    run(
        """
        import os, sys, time
        time.time = lambda: 0.0
        time.time_ns = lambda: 0
        from cachify_tasks import init_cachify, pool
        init_cachify(url=sys.argv[1], lease_ttl=3)
        pool("p", max_size=1).__enter__()
        os._exit(0)
        """,
        redis_url,
    )
    assert cachify.pool("p", max_size=1).size() == 1

    wait_until(lambda: cachify.pool("p", max_size=1).size() == 0)
    cachify.close()


def test_defect_4_setting_the_clock_of_a_program_in_memory_changes_nothing(monkeypatch):
    init_cachify()
    with pool("p", max_size=1) as slot:
        real = time.time_ns()
        monkeypatch.setattr(time, "time_ns", lambda: real + 10**15)
        monkeypatch.setattr(time, "time", lambda: real / 1e9 + 10**6)

        assert pool("p", max_size=1).size() == 1
        slot.check()
    set_global_engine(None)


# 5: one script, no lock around it


def test_defect_5_a_burst_fills_the_pool_exactly(cachify):
    for _ in range(10):
        entered: list[int] = []
        together = threading.Barrier(10, timeout=60)

        def burst(entered=entered, together=together):
            together.wait()
            try:
                with pool("p", max_size=3):
                    entered.append(1)
                    together.wait()
            except CachifyPoolFullError:
                together.wait()

        threads = [threading.Thread(target=burst) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(entered) == 3


def test_defect_5_a_pool_that_was_full_is_free_at_once(cachify):
    for _ in range(50):
        with pool("p", max_size=1):
            pass

    assert pool("p", max_size=1).size() == 0


def test_defect_5_a_slot_costs_two_commands_and_few_bytes_at_a_thousand_holders(redis_url):
    cachify = init_cachify(url=redis_url, is_global=False)
    p = cachify.pool("p", max_size=2000)
    for _ in range(1000):
        contextvars.Context().run(p.__enter__)
    heart.stop()
    with redis.Redis.from_url(redis_url) as client:

        def counted():
            stats, calls = client.info("stats"), client.info("commandstats")
            received = stats["total_net_input_bytes"] + stats["total_net_output_bytes"]
            return calls["cmdstat_evalsha"]["calls"], received

        counted()
        quiet = counted()[1] - counted()[1]  # what asking itself costs, negative
        calls, moved = counted()
        for _ in range(10):
            with p:
                pass
        calls_after, moved_after = counted()

        assert calls_after - calls == 20
        assert (moved_after - moved + quiet) / 10 < 2000
        client.flushdb()
    cachify.close()


# 6: errors of others


@pytest.mark.parametrize("nested", ["raised by hand", "of an inner pool"])
def test_defect_6_a_full_error_of_the_body_is_not_taken_for_the_outer_one(cachify, nested):
    answers = []

    @pooled("outer", max_size=1, on_full=lambda: answers.append("on_full"))
    def work():
        answers.append("body")
        if nested == "raised by hand":
            raise CachifyPoolFullError("mine")
        with pool("inner", max_size=1):
            answers.append("inner")

    with pool("inner", max_size=1), pytest.raises(CachifyPoolFullError) as caught:
        work()

    assert answers == ["body"]
    assert caught.value.key == ("" if nested == "raised by hand" else "inner")
    assert work.size() == 0


async def test_defect_6_a_full_error_of_an_async_body_is_not_taken_for_the_outer_one(cachify):
    answers = []

    @pooled("outer", max_size=1, on_full=lambda: answers.append("on_full"))
    async def work():
        async with pool("inner", max_size=1):
            answers.append("body")

    async with pool("inner", max_size=1):
        with pytest.raises(CachifyPoolFullError, match="'inner'"):
            await work()

    assert answers == []


# 7: cancellation (each await: tests/io/test_cancellation.py)


async def test_defect_7_150_cancelled_leak_no_slot(cachify):
    @pooled("p", max_size=1000)
    async def work():
        await asyncio.sleep(0.001)

    tasks = []
    for number in range(150):
        tasks.append(asyncio.create_task(work()))
        await asyncio.sleep(0.0001 * (number % 20))
        tasks[-1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert await work.size() == 0


async def test_defect_7_20_of_20_timeouts_leak_no_slot(cachify_on_redis):
    async def work():
        async with pool("p", max_size=100):
            await asyncio.sleep(60)

    for number in range(20):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(work(), 0.0002 * (number + 1))

    assert await pool("p", max_size=100).asize() == 0


# 12: bad values


@pytest.mark.parametrize("make", [pool, pooled])
@pytest.mark.parametrize("size", [0, -1, 1.5, None, True, "3"])
def test_defect_12_a_max_size_that_is_no_whole_number_of_at_least_1_is_refused_at_once(make, size):
    with pytest.raises((TypeError, ValueError), match=r"max_size must be an int of at least 1, not .* \(pool 'p'\)"):
        make("p", max_size=size)


@pytest.mark.parametrize("make", [pool, pooled])
@pytest.mark.parametrize("exp", [0, -1, float("nan"), float("inf"), 10**10])
def test_defect_12_a_slot_exp_that_is_no_time_is_refused_at_once(make, exp):
    with pytest.raises(ValueError, match="slot_exp must be at "):
        make("p", max_size=1, slot_exp=exp)


# 13: what stays behind


def test_defect_13_every_key_of_a_pool_has_a_life(redis_url):
    cachify = init_cachify(url=redis_url, is_global=False)

    @cachify.pooled("p-{n}", max_size=1)
    def work(n):
        return keys_without_ttl(redis_url)

    assert [work(n) for n in range(3)] == [[], [], []]
    assert keys_without_ttl(redis_url) == []
    with redis.Redis.from_url(redis_url) as client:
        keys = Schema("PYC-").pool("p-0")
        assert client.exists(keys.slots) == 0
        tombs = list(client.scan_iter(f"{keys.done}*"))
        assert all(0 < client.pttl(key) <= 5000 for key in tombs)
    cachify.close()


def test_defect_13_memory_stays_flat_over_many_calls_of_many_keys():
    cachify = init_cachify(is_global=False)
    store = cachify._engine.store
    now = 10**15

    def clock():
        nonlocal now
        now += 20_000  # 20 ms a command: a tombstone lives for 250 of them
        return now

    store._clock = clock

    @cachify.pooled("p-{n}", max_size=1)
    def work(n):
        current_slot()

    def after(calls, first):
        for n in range(first, first + calls):
            work(n)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early = after(1500, 0)
        late = after(4000, 1500)
    finally:
        tracemalloc.stop()

    assert late - early < 150_000  # what is kept for a while is kept in both; one more pool is 1 kB
    assert len(store._pools) < 1000


def test_defect_13_values_whose_time_is_over_are_evicted_from_memory():
    cachify = init_cachify(is_global=False)
    store = cachify._engine.store
    now = 10**15
    store._clock = lambda: now

    @cachify.cached("v-{n}", ttl=1)
    def value(n):
        return n

    for n in range(1000):
        value(n)
    assert len(store._values) == 1000
    now += 2_000_000
    for n in range(3000):
        value(n % 10)

    assert len(store._values) == 10


# 14: a store that dies


@pytest.mark.parametrize("outcome", ["result", "error"])
async def test_defect_14_a_store_that_dies_in_the_body_does_not_replace_its_outcome(private_server, outcome):
    server = private_server()
    cachify = init_cachify(url=f"{server.url}?socket_timeout=2&socket_connect_timeout=2", is_global=False)

    @cachify.pooled("p", max_size=3)
    async def work():
        return "own"

    def body(error=None):
        with cachify.pool("p", max_size=3):
            server.kill()
            if error:
                raise error
            return "own"

    if outcome == "error":
        with pytest.raises(ZeroDivisionError):
            body(ZeroDivisionError("own"))
    else:
        assert body() == "own"
    server.restart()
    assert await work() == "own"
    await cachify.aclose()
    cachify.close()
