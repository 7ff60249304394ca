"""What goes wrong with time in py-cachify 3.1.0 and must not here, numbered as in test_defects_of_the_reference.

2, 3: leases. 4: clocks of clients. 13: what stays behind.
"""

import contextvars
import gc
import threading
import time
import tracemalloc

import pytest
import redis

from cachify_tasks import CachifyPoolFullError, current_slot, init_cachify, pool, pooled
from cachify_tasks._core.keys import Schema
from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks._runtime.lease_renewer import lease_renewer
from cachify_tasks._store.memory_store import MemoryStore
from tests.support.leaks import keys_without_ttl
from tests.support.programs import run
from tests.support.waiting import wait_until


@pytest.fixture
def short(cachify):
    cachify._runtime.lease_ms = 1200
    yield cachify
    lease_renewer.stop()


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
    set_global_runtime(None)


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
        tombs = list(client.scan_iter(f"{keys.tombstone}*"))
        assert all(0 < client.pttl(key) <= 5000 for key in tombs)
    cachify.close()


def test_defect_13_memory_stays_flat_over_many_calls_of_many_keys():
    cachify = init_cachify(is_global=False)
    store = cachify._runtime.store
    assert isinstance(store, MemoryStore)
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
    store = cachify._runtime.store
    assert isinstance(store, MemoryStore)
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
