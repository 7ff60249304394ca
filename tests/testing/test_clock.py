"""The memory with a clock by hand: what passes, what is renewed, what is as before when the block ends."""

import asyncio
from collections.abc import Iterator
from contextvars import copy_context
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from cachify_tasks import (
    CachifyInitError,
    CachifyPoolFullError,
    Drop,
    LeaseLost,
    cached,
    current_slot,
    init_cachify,
    pool,
    pooled,
    testing,
)
from cachify_tasks._runtime.instances import chosen_runtime, peek_global_runtime
from cachify_tasks._runtime.lease_renewer import lease_renewer
from cachify_tasks.celery import setup
from tests.support.apps import embedded_worker, forgotten_apps
from tests.support.shop import make_app
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture(autouse=True)
def nothing_global() -> Iterator[None]:
    with forgotten_apps():
        yield


def size(key: str = "p") -> int:
    return pool(key, max_size=1).size()


def test_the_clock_stands_still_until_it_is_moved():
    with testing.memory() as clock:
        before = clock.now
        clock.move(31)
        clock.move(timedelta(minutes=1))

        assert clock.now == pytest.approx(before + 91)


@pytest.mark.parametrize("wrong", [-1, "1", float("nan"), 1e12])
def test_time_is_moved_forwards_by_seconds(wrong):
    with testing.memory() as clock:
        for pass_time in (clock.move, clock.stall):
            with pytest.raises((TypeError, ValueError), match="seconds must be"):
                pass_time(wrong)


def test_who_lives_keeps_the_slot_however_long_it_takes():
    with testing.memory() as clock, pool("p", max_size=1) as slot:
        for _ in range(300):
            clock.move(timedelta(days=2))

        assert size() == 1
        assert not slot.lost
        with pytest.raises(CachifyPoolFullError), pool("p", max_size=1):
            pass


def test_a_hard_limit_ends_a_slot_when_it_has_passed():
    with testing.memory() as clock, pool("p", max_size=1, slot_exp=60) as slot:
        clock.move(59.9)
        on_time = size()
        clock.move(0.2)

        assert (on_time, size()) == (1, 0)
        with pytest.raises(LeaseLost):
            slot.check()


def test_a_stall_of_a_whole_lease_costs_the_slot_and_the_holder_knows():
    with testing.memory() as clock, pool("p", max_size=1) as slot:
        clock.stall(30.001)

        assert size() == 0
        assert slot.lost
        with pool("p", max_size=1) as successor:
            assert successor.token > slot.token


def test_a_stall_within_the_lease_costs_nothing():
    with testing.memory() as clock, pool("p", max_size=1) as slot:
        for _ in range(5):
            clock.stall(29)

        assert size() == 1
        slot.check()


def test_the_lease_is_that_of_the_programs_settings():
    init_cachify(lease_ttl=5)
    with testing.memory() as clock, pool("p", max_size=1):
        clock.stall(6)

        assert size() == 0


def test_a_slot_that_nobody_holds_any_more_ends_with_its_lease():
    with testing.memory() as clock:
        lease_renewer.remove(copy_context().run(pool("p", max_size=1).__enter__))  # as one that was collected
        clock.move(31)

        assert size() == 0


def test_cached_values_end_with_their_ttl():
    asked = []

    @cached(key="rate", ttl=60)
    def rate() -> int:
        asked.append(1)
        return len(asked)

    with testing.memory() as clock:
        first = rate(), rate()
        clock.move(60)

        assert (*first, rate()) == (1, 1, 2)


async def test_coroutines_are_under_the_clock_too():
    @pooled(key="p", max_size=1, on_full=Drop(result="busy"), slot_exp=10)
    async def work(gate: asyncio.Event) -> str:
        await gate.wait()
        return "done"

    with testing.memory() as clock:
        gate = asyncio.Event()
        first = asyncio.create_task(work(gate))
        await asyncio.sleep(0)
        full = await work(gate)
        clock.move(11)
        second = asyncio.create_task(work(gate))
        await asyncio.sleep(0)
        gate.set()

        assert (full, await first, await second) == ("busy", "done", "done")


def test_a_real_renewal_does_not_bring_a_lost_lease_back():
    with testing.memory() as clock, pool("p", max_size=1) as slot:
        clock.stall(31)
        lease_renewer.renew_all(slot.store)

        assert size() == 0


def test_without_init_cachify_there_is_one_in_the_block_alone():
    with testing.memory(), pool("p", max_size=1):
        assert size() == 1

    assert peek_global_runtime() is None
    with pytest.raises(CachifyInitError):
        size()


def test_each_block_begins_empty():
    with testing.memory():
        outer = pool("p", max_size=1)
        with outer, testing.memory():
            inner = size()
        assert inner == 0
        assert outer.size() == 0


def test_instances_on_a_server_are_back_on_it_after_the_block(redis_url):
    mine = init_cachify(url=redis_url)
    bound = init_cachify(url=redis_url, is_global=False)
    with testing.memory(), bound.pool("p", 3):
        born_inside = init_cachify(url=redis_url)
        inside = {repr(one) for one in (mine, bound, born_inside)}
        sizes = [one.pool("p", 3).size() for one in (mine, bound, born_inside)]

    assert (inside, sizes) == ({"<Cachify on memory>"}, [1, 1, 1])
    assert {repr(one) for one in (mine, bound, born_inside)} == {f"<Cachify on {redis_url}>"}
    assert chosen_runtime() is mine._runtime
    assert mine.pool("p", 3).size() == 0
    for one in (mine, bound, born_inside):
        one.close()


def test_nothing_is_asked_of_the_server_that_a_program_names():
    init_cachify(url="redis://127.0.0.1:1/0")  # nobody listens there

    with testing.memory(), pool("p", max_size=1):
        assert size() == 1


def test_what_was_global_is_back_after_an_error():
    mine = init_cachify()
    with pytest.raises(CachifyPoolFullError), testing.memory(), pool("p", max_size=1):
        init_cachify().pool("p", max_size=1).__enter__()

    assert chosen_runtime() is mine._runtime


def test_eager_tasks_are_in_the_memory_whatever_their_apps_url():
    app = Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.task_always_eager = True
    setup(app)

    @pooled(key="tenant-{tenant}", max_size=1, on_full=Drop(result="busy"))
    def sync(tenant: str) -> str:
        current_slot().check()
        return tenant

    sync_orders: Any = app.task(sync)

    with testing.memory() as clock:
        results = [sync_orders.delay("a").get()]
        with pool("tenant-a", max_size=1):
            results.append(sync_orders.delay("a").get())
            results.append(sync_orders.delay("b").get())
            clock.stall(31)
            results.append(sync_orders.delay("a").get())

        assert results == ["a", "busy", "b", "a"]
        assert sync_orders.size("a") == 0


@pytest.mark.parametrize(("workers", "url"), [("solo", "memory://"), ("threads", "redis://127.0.0.1:1/0")])
def test_a_worker_in_the_tests_process_is_in_the_memory(workers, url):
    init_cachify(url=url)
    app: Any = make_app("memory://", "cache+memory://", url)
    with testing.memory() as clock, embedded_worker(app, workers), pool("add", max_size=1):
        sent = app.tasks["add"].delay(1, 2)
        wait_until(lambda: sent.state == "RETRY")
        clock.stall(31)

        assert sent.get(timeout=PATIENCE_S) == 3
