"""Overrides of the limit, who holds what, and cached values, in every store."""

import pytest

from cachify_tasks._core.commands import Look
from cachify_tasks._core.key_commands import Delete, Get, Put
from cachify_tasks._core.replies import Reply, Room
from tests.support.stores import BEGIN, LEASE, POOL, START, TOMB


def test_a_raised_limit_is_filled_by_the_next_sweep(store):
    for name in "abcd":
        store.acquire(name)

    assert store.configure(3) == Reply("configured", token=0, held=1, limit=3)
    assert [heir.holder for heir in store.sweep().heirs] == ["b", "c"]
    store.configure(None)


def test_a_limit_of_zero_pauses_a_pool(store):
    token = store.acquire("a").token
    store.configure(0)

    reply = store.plain("b")
    assert (reply.status, reply.limit) == ("full", 0)
    store.acquire("c")
    assert store.release("a", token).heirs == ()
    assert store.sweep().heirs == ()

    assert store.configure(None).limit == 1
    assert [heir.holder for heir in store.sweep().heirs] == ["c"]


def test_an_override_counts_more_than_the_limits_of_acquires(store):
    store.plain("a", limit=1)
    store.configure(3)

    reply = store.plain("b", limit=2)

    assert (reply.status, reply.limit, reply.previous_limit) == ("granted", 3, 1)
    assert store.configure(None).limit == 2


def test_a_lowered_limit_drains(store):
    tokens = [store.acquire(name, limit=3).token for name in "abc"]
    store.acquire("d", limit=3)

    assert store.configure(1) == Reply("configured", token=0, held=3, limit=1)
    assert store.release("a", tokens[0]).heirs == ()
    assert store.release("b", tokens[1]).heirs == ()
    assert [heir.holder for heir in store.release("c", tokens[2]).heirs] == ["d"]
    store.configure(None)


@pytest.mark.leaks("keys", reason="a limit set at run time stays until it is taken back")
def test_an_override_outlives_idleness(store):
    store.configure(5)
    store.later(30 * 86400)

    assert store.inspect().limit == 5
    assert store.plain("a", limit=1).limit == 5


def test_inspect_shows_who_holds_what(store):
    token = store.acquire("a", limit=2, label="app.sync @worker|1\n").token
    store.later(5)
    other = store.acquire("b", limit=2).token
    store.acquire("c", limit=2)
    heir = store.release("b", other).heirs[0]
    store.acquire("d", limit=2)

    view = store.inspect()

    assert (view.name, view.limit, view.waiting) == (POOL, 2, 1)
    assert [tuple(holder) for holder in view.holders] == [
        ("c", heir.token, "", True, BEGIN / 1e6 + 5, START),
        ("a", token, "app.sync @worker|1\n", False, BEGIN / 1e6, LEASE - 5),
    ]


def test_a_look_counts_slots_and_tickets_and_writes_nothing(store):
    assert store.send(Look(POOL)) == Room(0, 0)
    token = store.acquire("a", limit=1).token
    store.acquire("b", limit=1)
    assert store.send(Look(POOL)) == Room(1, 1)
    store.configure(0)
    store.release("a", token)
    assert store.send(Look(POOL)) == Room(0, 1, override=0)
    store.later(LEASE + 1)
    assert store.send(Look("never seen")) == Room(0, 0)
    store.configure(None)


def test_a_dead_run_is_neither_counted_nor_shown(store):
    store.acquire("a", limit=2)
    store.later(LEASE + 1)
    store.send(Delete("unrelated"))

    assert store.size() == 0
    assert store.inspect().holders == ()


def test_a_pool_never_seen_is_empty(store):
    assert store.size() == 0
    assert tuple(store.inspect()) == (POOL, 0, 0, ())
    assert store.pools() == []


def test_pools_lists_those_with_holders_or_tickets(store):
    token = store.acquire("a", pool="one").token
    store.acquire("b", pool="two")
    store.acquire("c", pool="two")
    store.release("a", token, pool="one")
    other = store.acquire("a", pool="three").token

    assert store.pools() == ["three", "two"]

    store.release("a", other, pool="three")
    assert store.pools() == ["two"]


@pytest.mark.parametrize("name", ["a b", "Ж:ü", "{x}", "a|b*?", "t" * 300, "\n"])
def test_a_name_may_be_any_text(store, name):
    token = store.acquire(name, pool=name, label=name).token
    store.acquire(name + "2", pool=name)

    reply = store.release(name, token, pool=name)

    assert [heir.holder for heir in reply.heirs] == [name + "2"]
    assert store.release(name, token, pool=name) == reply
    assert store.pools() == [name]


def test_a_value_is_kept_until_it_is_deleted_or_its_time_is_over(store):
    assert store.send(Get("k")) is None
    assert store.send(Put("k", b"\x00\xff", 60_000)) is None
    assert store.send(Put("mortal", b"m", 5_000)) is None
    assert store.send(Get("k")) == b"\x00\xff"

    store.later(5)
    assert store.send(Get("mortal")) is None
    assert store.send(Get("k")) == b"\x00\xff"

    assert store.send(Delete("k")) is None
    assert store.send(Get("k")) is None
    assert store.send(Delete("k")) is None


@pytest.mark.leaks("keys", reason="a value kept without a ttl")
def test_a_value_without_a_ttl_stays(store):
    store.send(Put("k", b"v", 5_000))
    store.send(Put("k", b"w", None))
    store.later(10 * TOMB)

    assert store.send(Get("k")) == b"w"
