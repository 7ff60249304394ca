"""Events: what listeners get, that one that raises hurts nobody, and what the log makes of them."""

import logging
import threading

import pytest

from cachify_tasks import CachedFallback, CachifyPoolFullError, CachifyStoreError, Drop, pool, pooled, testing
from cachify_tasks._core.key_commands import Put
from cachify_tasks._runtime.event_log import EventLog
from cachify_tasks._runtime.events import Emitter, add_listener, remove_listener
from cachify_tasks._runtime.lease_renewer import LeaseRenewer
from cachify_tasks._runtime.slot import Slot
from cachify_tasks._store.memory_store import MemoryStore
from cachify_tasks.testing import (
    Event,
    LeaseWasLost,
    LimitsDiffer,
    PoolFull,
    RenewalFailed,
    ResultNotKept,
    SlotGranted,
    SlotReleased,
    StoreUnreachable,
)
from tests.runtime.test_lease_renewer import request
from tests.support.meddling import meddled


def kinds(seen):
    return [type(event) for event in seen]


def test_a_slot_that_is_granted_and_released_makes_two_events(cachify):
    with testing.events() as seen, pool("p", max_size=2) as slot:
        assert seen == [SlotGranted(pool="p", holder=slot.holder, token=slot.token, limit=2, held=1, label="")]

    (_, released) = seen
    assert isinstance(released, SlotReleased)
    assert (released.pool, released.holder, released.token) == ("p", slot.holder, slot.token)
    assert 0 <= released.held_s < 60


async def test_so_does_one_of_an_event_loop(cachify):
    @pooled("p", max_size=1)
    async def work(): ...

    qualname = f"{test_so_does_one_of_an_event_loop.__qualname__}.<locals>.work"
    with testing.events() as seen:
        await work()

    assert kinds(seen) == [SlotGranted, SlotReleased]
    assert {event.label for event in seen if isinstance(event, SlotGranted | SlotReleased)} == {qualname}


def test_a_call_that_finds_its_pool_full_says_what_was_decided(cachify):
    @pooled("p", max_size=1, on_full=Drop())
    def work(): ...

    with pool("p", max_size=1), testing.events() as seen:
        work()
        with pytest.raises(CachifyPoolFullError):
            pool("p", max_size=1).acquire(timeout=0)

    assert kinds(seen) == [PoolFull, PoolFull]
    full = [event for event in seen if isinstance(event, PoolFull)]
    assert [(event.label, event.decision, event.limit, event.held) for event in full] == [
        (work.__qualname__, "Skip", 1, 1),
        ("", "RaiseFull", 1, 1),
    ]


def test_two_limits_for_one_pool_make_an_event_each_time(cachify):
    with testing.events() as seen:
        for limit in (1, 2, 1):
            with pool("p", max_size=limit):
                pass

    assert [event for event in seen if isinstance(event, LimitsDiffer)] == [
        LimitsDiffer(pool="p", previous_limit=1, limit=2, counts=2),
        LimitsDiffer(pool="p", previous_limit=2, limit=1, counts=1),
    ]


def test_a_lease_that_ends_before_its_run_makes_an_event_and_no_release(cachify):
    with testing.memory() as clock, testing.events() as seen:
        entered = pool("p", max_size=1)
        slot = entered.__enter__()
        clock.stall(31)
        entered.__exit__(None, None, None)

    assert kinds(seen) == [SlotGranted, LeaseWasLost]
    assert seen[1] == LeaseWasLost(pool="p", holder=slot.holder, token=slot.token, when="while it ran")


def test_a_renewal_that_fails_makes_one_event_for_all_leases():
    seen: list[Event] = []
    store, error = MemoryStore(), CachifyStoreError("out of reach")
    mine = LeaseRenewer(emit=seen.append)
    slots = [Slot(store, request(holder), 1, tomb_ms=100) for holder in "ab"]
    for slot in slots:
        mine.add(slot)

    store.execute_many = lambda _: [error, error]  # type: ignore[method-assign, assignment]
    mine.renew_all(store)

    assert seen == [RenewalFailed(count=2, error=error)]
    mine.stop()


def test_a_result_that_cannot_be_kept_makes_an_event(cachify, caplog):
    @pooled("p", max_size=1, on_full=CachedFallback())
    def work():
        return lambda: None  # cannot be pickled

    with testing.events() as seen:
        work()
        work()

    assert kinds(seen) == [SlotGranted, SlotReleased, ResultNotKept] * 2
    assert caplog.text.count("cannot be pickled and is not kept") == 1


def test_a_cached_function_that_has_run_returns_its_result_though_it_cannot_be_kept(cachify, caplog):
    def refuse(command, moment):
        if isinstance(command, Put):
            raise CachifyStoreError("out of reach")

    def broken(value):
        raise ZeroDivisionError

    meddled(cachify, refuse)

    @cachify.cached("good-{n}", ttl=60)
    def good(n):
        return n

    @cachify.cached("lock-{n}", ttl=60)
    def unpicklable(n):
        return lambda: n

    @cachify.cached("enc-{n}", ttl=60, enc_dec=(broken, broken))
    def badly_encoded(n):
        return n

    with testing.events() as seen:
        assert (good(1), unpicklable(2)(), badly_encoded(3)) == (1, 2, 3)

    assert [type(event).__name__ for event in seen] == ["StoreUnreachable", "ResultNotKept", "ResultNotKept"]
    assert "keeping a cached value: out of reach" in caplog.text


def test_a_store_that_fails_makes_an_event_and_the_call_goes_on(cachify, caplog):
    def refuse(command, moment):
        if isinstance(command, Put):
            raise CachifyStoreError("out of reach")

    meddled(cachify, refuse)

    @pooled("p", max_size=1, on_full=CachedFallback())
    def work():
        return "result"

    with testing.events() as seen:
        assert [work(), work()] == ["result"] * 2

    unreachable = [event for event in seen if isinstance(event, StoreUnreachable)]
    assert [event.doing for event in unreachable] == ["keeping a last good result"] * 2
    assert caplog.text.count("keeping a last good result: out of reach") == 1


def test_nothing_is_collected_after_the_block(cachify):
    with testing.events() as seen:
        pass

    with pool("p", max_size=1):
        pass

    assert seen == []


def test_a_listener_that_raises_hurts_nobody_and_is_reported_once(cachify, caplog):
    def broken(event):
        raise RuntimeError("mine")

    add_listener(broken)
    try:
        with testing.events() as seen:
            for _ in range(3):
                with pool("p", max_size=1):
                    pass
    finally:
        remove_listener(broken)

    assert kinds(seen) == [SlotGranted, SlotReleased] * 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert "broken" in line
    assert "RuntimeError('mine')" in line


def test_a_listener_that_is_added_again_and_fails_again_is_reported_again(cachify, caplog):
    def broken(event):
        raise RuntimeError("mine")

    for _ in range(2):
        add_listener(broken)
        with pool("p", max_size=1):
            pass
        remove_listener(broken)

    assert len(caplog.records) == 2  # another listener may get the identity of one that is gone


def test_a_listener_may_add_and_remove_listeners(cachify):
    seen: list[Event] = []

    def once(event):
        remove_listener(once)
        seen.append(event)

    add_listener(once)
    with pool("p", max_size=1):
        pass

    assert kinds(seen) == [SlotGranted]


def test_listeners_hear_of_every_thread(cachify):
    def work():
        with pool("p", max_size=9):
            pass

    with testing.events() as seen:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(kind.__name__ for kind in kinds(seen)) == ["SlotGranted"] * 4 + ["SlotReleased"] * 4


def test_the_log_says_a_line_about_an_outage_once_in_ten_seconds(caplog):
    now = 0.0
    emit = Emitter(EventLog(clock=lambda: now)).emit
    event = StoreUnreachable(doing="releasing slots", error=CachifyStoreError("out of reach"))

    for now in (0.0, 3.0, 9.9, 10.1):  # noqa: B007  # the clock reads it
        emit(event)

    assert caplog.messages == [
        "releasing slots: out of reach",
        "releasing slots: out of reach (2 more like this since the last line)",
    ]


def test_the_log_has_a_line_for_each_event_that_is_not_the_usual_course(caplog):
    caplog.set_level(logging.INFO, logger="cachify_tasks")
    log, error = EventLog(), CachifyStoreError("out of reach")

    for event in (
        testing.SlotGranted(pool="p", holder="h", token=1, limit=2, held=1, label="work"),
        testing.SlotReleased(pool="p", holder="h", token=1, label="work", held_s=1.0),
        testing.HandedOver(pool="p", holder="h", waited_ms=5, where="here"),
        testing.PoolFull(pool="p", holder="h", label="work", limit=2, held=2, decision="Skip", strategy="Drop()"),
        testing.TaskParked(pool="q", holder="h", task_id="1", label="work", limit=2, held=2),
        testing.LeaseWasLost(pool="p", holder="h", token=1, when="while it ran"),
        testing.RenewalFailed(count=3, error=error),
        testing.StandbyKept(pool="p", holder="h", label="work[1]"),
        testing.CopyDiscarded(pool="p", holder="h", label="work[1]"),
    ):
        log(event)

    assert caplog.messages == [
        "pool 'p' is full (limit 2): work -> Drop()",
        "pool 'q' is full (limit 2): work[1] is parked",
        "the lease of 'h' on pool 'p' was lost while it ran",
        "3 leases could not be renewed: out of reach",
        "work[1] is running; a copy of its message is kept aside",
        "work[1] has ended already; this copy is dropped",
    ]


def test_the_log_names_each_parked_task_at_its_finest(caplog):
    caplog.set_level(logging.DEBUG, logger="cachify_tasks")
    log = EventLog(clock=lambda: 0.0)

    for number in range(3):
        log(testing.TaskParked(pool="q", holder="h", task_id=str(number), label="work", limit=2, held=2))

    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.DEBUG, logging.DEBUG]
    assert [message.partition(": ")[2] for message in caplog.messages] == [f"work[{n}] is parked" for n in range(3)]
