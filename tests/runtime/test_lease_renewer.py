"""Leases: a process that lives keeps its slots, one that does not loses them, and nobody frees another's."""

import asyncio
import contextlib
import contextvars
import gc

import pytest

from cachify_tasks import Cachify, CachifyPoolFullError, LeaseLost, init_cachify, pool, pooled
from cachify_tasks._core.commands import Acquire
from cachify_tasks._core.flows import acquire
from cachify_tasks._core.keys import Schema
from cachify_tasks._runtime import lease_renewer as module
from cachify_tasks._runtime.direct_calls import acquire_command
from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks._runtime.lease_renewer import LeaseRenewer, lease_renewer
from cachify_tasks._runtime.runtime import Runtime
from cachify_tasks._runtime.slot import Slot
from cachify_tasks._store.memory_store import MemoryStore
from cachify_tasks._store.redis_store import RedisStore
from cachify_tasks.settings import Settings
from tests.support.stores import LEASE, Store, opened
from tests.support.waiting import wait_until

SHORT_MS = 400  # a lease, where the thread itself is tested


class Bench:
    """The global instance, with a lease of 30 s. Its store and its lease renewer have one clock, moved by the test."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.renewer = LeaseRenewer(clock=lambda: store.now / 1e6)
        self.runtime = Runtime(store.store, Settings())
        self.cachify = Cachify(self.runtime)

    def live(self, seconds: float) -> None:
        """Let time pass while this process lives: the renewer does its rounds."""
        for _ in range(round(seconds)):
            self._store.later(1)
            self.renewer.renew_due()

    def stall(self, seconds: float) -> None:
        """Let time pass while this process stands still."""
        self._store.later(seconds)


@pytest.fixture(params=["memory-sync", "redis-sync"])
def bench(request, monkeypatch):
    url = request.getfixturevalue("redis_url") if request.param == "redis-sync" else None
    with opened(request.param, url) as store:
        made = Bench(store)
        monkeypatch.setattr("cachify_tasks._runtime.slot_keeper.lease_renewer", made.renewer)
        set_global_runtime(made.runtime)
        yield made
        set_global_runtime(None)
        made.renewer.stop()


@pytest.fixture
def short(cachify):
    """The global instance, with a short lease, in real time."""
    cachify._runtime.lease_ms = SHORT_MS
    yield cachify
    lease_renewer.stop()  # the next test's pace is its own


def taken(key="p"):
    """Whether a slot of this pool of one was to be had."""
    try:
        with pool(key, max_size=1):
            return True
    except CachifyPoolFullError:
        return False


def wait_until_renewed(slot: Slot) -> None:
    """Until the thread has renewed it twice: the first lease alone would not have lasted so long."""
    seen = {slot.renewed_at}

    def renewed_twice() -> bool:
        seen.add(slot.renewed_at)
        return slot.lost or len(seen) > 2

    wait_until(renewed_twice)
    assert not slot.lost


def request(holder: str, lease_ms: int = 60_000) -> Acquire:
    return Acquire(pool="p", holder=holder, request_id="r", limit=1, lease_ms=lease_ms, start_ms=100)


def test_work_longer_than_its_lease_lets_nobody_else_in(bench):
    with pool("p", max_size=1) as slot:
        for _ in range(20):
            bench.live(LEASE / 5)
            assert not taken()

        slot.check()
    assert taken()


def test_a_lease_is_not_renewed_before_it_has_lost_a_third_of_its_life(bench):
    with pool("p", max_size=1) as slot:
        before = slot.renewed_at

        bench.live(LEASE / 5)
        assert slot.renewed_at == before

        bench.live(LEASE / 5)
        assert slot.renewed_at > before


async def test_work_that_blocks_its_event_loop_keeps_its_slot(short):
    async with pool("p", max_size=1) as slot:
        wait_until_renewed(slot)  # it blocks: that is what the test is about
        await slot.acheck()


def test_many_slots_are_renewed_together(bench):
    pools = [pool(f"p{number}", max_size=1) for number in range(20)]
    for each in pools:
        each.__enter__()

    bench.live(2 * LEASE)

    assert [each.size() for each in pools] == [1] * 20
    for each in reversed(pools):
        each.__exit__(None, None, None)


def test_a_slot_that_is_left_is_renewed_no_more(cachify):
    with pool("p", max_size=1) as slot:
        pass

    assert slot not in [ref() for ref in lease_renewer._slots]
    with pytest.raises(LeaseLost):
        slot.check()


def test_a_slot_whose_handle_is_gone_ends_with_its_lease(bench):
    runtime = bench.runtime
    command = acquire_command(runtime, pool="p", limit=1, slot_exp_ms=None)
    slot = runtime.run(acquire(runtime.keeper, command))
    assert isinstance(slot, Slot)
    bench.live(LEASE + 1)
    assert not taken()

    del slot
    bench.live(LEASE + 1)

    assert taken()


def test_an_abandoned_generator_frees_its_slot(cachify):
    @pooled("p", max_size=1)
    def numbers():
        yield from range(10)

    items = numbers()
    next(items)
    assert not taken()

    del items

    assert taken()


def test_an_async_generator_whose_loop_is_gone_ends_with_its_lease(bench):
    @pooled("p", max_size=1)
    async def numbers():
        for number in range(10):
            yield number

    loop = asyncio.new_event_loop()
    items = numbers()
    loop.run_until_complete(items.__anext__())
    loop.run_until_complete(bench.cachify.aclose())
    loop.close()
    bench.live(LEASE + 1)
    assert not taken()

    del items
    gc.collect()  # asyncio's own frames may keep the task that ran it
    bench.live(LEASE + 1)

    assert taken()


def test_a_hard_limit_ends_a_slot_though_its_process_lives(bench, caplog):
    with pool("p", max_size=1, slot_exp=100) as slot:
        bench.live(99)
        assert not taken()
        slot.check()

        bench.live(LEASE)

        assert taken()
        assert slot.lost
        with pytest.raises(LeaseLost, match=r"on pool 'p' \(token \d+\)"):
            slot.check()

    assert caplog.text.count("was lost while it ran") == 1


def test_a_lost_lease_is_noticed_and_frees_nobody_elses_slot(bench):
    p = pool("p", max_size=1)
    with contextlib.ExitStack() as stack:
        slot = stack.enter_context(p)
        bench.stall(LEASE + 1)
        assert p.size() == 0
        other = pool("p", max_size=1)
        mine = contextvars.copy_context().run(other.__enter__)
        with pytest.raises(LeaseLost):
            slot.check()
        assert slot.lost

        stack.close()

        assert p.size() == 1
        mine.check()
        contextvars.Context().run(other.__exit__, None, None, None)


def test_the_thread_ends_when_there_is_nothing_to_renew_and_comes_back(short, monkeypatch):
    monkeypatch.setattr(module, "IDLE", 0.02)
    lease_renewer.stop()
    with pool("p", max_size=1):
        thread = lease_renewer._thread
        assert thread is not None
        assert thread.daemon

    wait_until(lambda: not thread.is_alive())
    assert lease_renewer._thread is None
    with pool("p", max_size=1) as slot:
        wait_until_renewed(slot)


def test_a_renewer_that_is_stopped_renews_no_more_until_it_gets_another_slot(bench):
    p = pool("p", max_size=1)
    with p:
        bench.renewer.stop()
        bench.live(LEASE + 1)
        assert p.size() == 0

        with p as slot:
            bench.live(2 * LEASE)
            slot.check()


def test_a_shorter_lease_quickens_the_renewer(redis_url):
    slow = init_cachify(url=redis_url, lease_ttl=30, is_global=False)
    quick = init_cachify(url=redis_url, lease_ttl=SHORT_MS / 1000, is_global=False)
    with slow.pool("slow", 1), quick.pool("quick", 1) as slot:
        wait_until_renewed(slot)

        slot.check()
    lease_renewer.stop()
    for cachify in (slow, quick):
        cachify.close()


def test_a_renewer_survives_an_error_that_nobody_foresaw(monkeypatch, caplog):
    store, mine = MemoryStore(), LeaseRenewer()
    monkeypatch.setattr(store, "execute_many", lambda _: 1 / 0)
    slot = Slot(store, request("h", lease_ms=100), 1, tomb_ms=100)

    mine.add(slot)

    wait_until(lambda: "renewing leases failed" in caplog.text)
    assert mine._thread is not None
    assert mine._thread.is_alive()
    mine.stop()


def test_a_slot_that_dies_takes_no_other_slot_out_of_the_renewer():
    mine, store = LeaseRenewer(), MemoryStore()
    first = Slot(store, request("a"), 1, tomb_ms=100)
    mine.add(first)
    dead = next(iter(mine._slots))
    del first
    second = Slot(store, request("b"), 2, tomb_ms=100)  # often at the same address
    mine.add(second)

    mine.renew_due()

    assert dead not in mine._slots
    assert [ref() for ref in mine._slots] == [second]
    mine.stop()


def test_keys_of_a_pool_have_lives_while_it_is_held(redis_url):
    cachify = init_cachify(url=redis_url, is_global=False)
    keys = Schema("PYC-").pool("p")
    store = cachify._runtime.store
    assert isinstance(store, RedisStore)
    with cachify.pool("p", 1):
        assert store.client.exists(keys.slots) == 1
        assert all(store.client.pttl(key) > 0 for key in store.client.scan_iter())
    cachify.close()
