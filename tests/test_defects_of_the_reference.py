"""What goes wrong in py-cachify 3.1.0 and must not here; one number a kind of defect.

1: one pool object used more than once at a time. 5: steps that are no script, behind a lock. 6: errors of others.
7: cancellation (at each await: tests/runtime/test_cancellation.py). 12: bad values. 14: a store that dies. The
others, which have to do with time, are in test_defects_in_time.
"""

import asyncio
import contextvars
import threading

import pytest
import redis

from cachify_tasks import CachifyPoolFullError, init_cachify, pool, pooled
from cachify_tasks._runtime.lease_renewer import lease_renewer


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
    lease_renewer.stop()
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
