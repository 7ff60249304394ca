"""Leases: who lives keeps its slot, who does not loses it, and nobody frees another's."""

import asyncio
import contextlib
import contextvars
import gc
import time

import pytest

from cachify_tasks import CachifyPoolFullError, LeaseLost, init_cachify, pool, pooled
from cachify_tasks._core.flows import enter
from cachify_tasks._core.keys import Schema
from cachify_tasks._runtime import lease_renewer as heart_module
from cachify_tasks._runtime.lease_renewer import LeaseRenewer, lease_renewer
from cachify_tasks._runtime.slot import Slot
from tests.support.stores import opened
from tests.support.waiting import wait_until

LEASE = 1.2


@pytest.fixture
def short(cachify):
    """The global instance, with a short lease."""
    runtime = cachify._runtime
    runtime.lease_ms = round(LEASE * 1000)
    yield cachify
    lease_renewer.stop()  # the next test's pace is its own


def taken(key="p"):
    """Whether a slot of this pool of one was to be had."""
    try:
        with pool(key, max_size=1):
            return True
    except CachifyPoolFullError:
        return False


def always_full(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if taken():
            return False
        time.sleep(0.01)
    return True


def test_work_longer_than_its_lease_lets_nobody_else_in(short):
    with pool("p", max_size=1) as slot:
        assert always_full(2 * LEASE)

        slot.check()
    assert taken()


async def test_work_that_blocks_its_event_loop_keeps_its_slot(short):
    async with pool("p", max_size=1) as slot:
        time.sleep(2 * LEASE)  # noqa: ASYNC251  # it is what the test is about
        await slot.acheck()


def test_many_slots_are_renewed_together(short):
    pools = [pool(f"p{number}", max_size=1) for number in range(20)]
    for each in pools:
        each.__enter__()
    time.sleep(2 * LEASE)

    assert [each.size() for each in pools] == [1] * 20
    for each in reversed(pools):
        each.__exit__(None, None, None)


def test_a_slot_that_is_left_is_renewed_no_more(short):
    with pool("p", max_size=1) as slot:
        pass

    assert slot not in [ref() for ref in lease_renewer._slots]
    with pytest.raises(LeaseLost):
        slot.check()


def test_a_slot_whose_handle_is_gone_ends_with_its_lease(short):
    runtime = short._runtime
    slot = runtime.run(enter(runtime, runtime.ask("p", 1, None, "")))
    assert isinstance(slot, Slot)
    assert not taken()

    del slot

    wait_until(taken, LEASE + 2)


def test_an_abandoned_generator_frees_its_slot(short):
    @pooled("p", max_size=1)
    def numbers():
        yield from range(10)

    items = numbers()
    next(items)
    assert not taken()

    del items

    assert taken()


def test_an_async_generator_whose_loop_is_gone_ends_with_its_lease(short):
    @pooled("p", max_size=1)
    async def numbers():
        for number in range(10):
            yield number

    loop = asyncio.new_event_loop()
    items = numbers()
    loop.run_until_complete(items.__anext__())
    loop.run_until_complete(short.aclose())
    loop.close()
    assert not taken()

    del items
    gc.collect()  # asyncio's own frames may keep the task that ran it

    wait_until(taken, LEASE + 2)


def test_a_hard_limit_ends_a_slot_though_its_process_lives(short, caplog):
    with pool("p", max_size=1, slot_exp=2) as slot:
        assert always_full(0.5)
        wait_until(taken)
        wait_until(lambda: slot.lost)
        with pytest.raises(LeaseLost, match=r"on pool 'p' \(token \d+\)"):
            slot.check()

    assert caplog.text.count("was lost while it ran") == 1


def test_a_lost_lease_is_told_and_frees_nobody_elses_slot(short, caplog):
    p = pool("p", max_size=1)
    with contextlib.ExitStack() as stack:
        slot = stack.enter_context(p)
        lease_renewer.stop()
        wait_until(lambda: p.size() == 0, LEASE + 2)
        other = pool("p", max_size=1)
        mine = contextvars.copy_context().run(other.__enter__)
        with pytest.raises(LeaseLost):
            slot.check()
        assert slot.lost

        stack.close()

        assert p.size() == 1
        mine.check()
        contextvars.Context().run(other.__exit__, None, None, None)


def test_the_thread_ends_when_there_is_nothing_to_renew_and_comes_back(cachify, monkeypatch):
    monkeypatch.setattr(heart_module, "IDLE", 0.02)
    cachify._runtime.lease_ms = round(LEASE * 1000)
    lease_renewer.stop()
    with pool("p", max_size=1):
        thread = lease_renewer._thread
        assert thread is not None
        assert thread.daemon

    wait_until(lambda: not thread.is_alive())
    assert lease_renewer._thread is None
    with pool("p", max_size=1) as slot:
        time.sleep(2 * LEASE)
        slot.check()


def test_a_heart_that_is_stopped_renews_no_more_until_it_gets_another_slot(short):
    p = pool("p", max_size=1)
    with p:
        lease_renewer.stop()
        wait_until(lambda: p.size() == 0, LEASE + 2)
        with p as slot:
            time.sleep(2 * LEASE)
            slot.check()


def test_a_shorter_lease_quickens_the_heart(redis_url):
    slow = init_cachify(url=redis_url, lease_ttl=30, is_global=False)
    quick = init_cachify(url=redis_url, lease_ttl=LEASE, is_global=False)
    with slow.pool("slow", 1), quick.pool("quick", 1) as slot:
        time.sleep(2 * LEASE)

        slot.check()
        assert not slot.lost
    lease_renewer.stop()
    for cachify in (slow, quick):
        cachify.close()


def test_a_heart_survives_an_error_that_nobody_foresaw(monkeypatch, caplog):
    with opened("memory-sync") as store:
        mine, store.store.execute_many = LeaseRenewer(), lambda _: 1 / 0
        slot = Slot(store.store, "p", "h", 1, "r", 100, 100, 100)
        mine.add(slot)
        wait_until(lambda: "renewing leases failed" in caplog.text)
        assert mine._thread is not None
        assert mine._thread.is_alive()
        mine.stop()


def test_a_slot_that_dies_takes_no_other_slots_place_in_the_heart():
    mine = LeaseRenewer()
    first = Slot(None, "p", "a", 1, "r", 60_000, 100, 100)
    mine.add(first)
    dead = next(iter(mine._slots))
    del first
    second = Slot(None, "p", "b", 2, "r", 60_000, 100, 100)  # often at the same address
    mine.add(second)

    mine.beat()

    assert dead not in mine._slots
    assert [ref() for ref in mine._slots] == [second]
    mine.stop()


def test_keys_of_a_pool_have_lives_while_it_is_held(redis_url):
    cachify = init_cachify(url=redis_url, is_global=False)
    keys = Schema("PYC-").pool("p")
    client = cachify._runtime.store.client
    with cachify.pool("p", 1):
        assert client.exists(keys.slots) == 1
        assert all(client.pttl(key) > 0 for key in client.scan_iter())
    cachify.close()
