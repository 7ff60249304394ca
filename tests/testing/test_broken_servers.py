"""Each invariant, broken on purpose by raw commands, is reported by its name; what is sound is not."""

from collections.abc import Callable
from typing import Any, get_args

import pytest

from cachify_tasks import testing
from cachify_tasks._core.keys import Schema
from cachify_tasks._store.records import TicketRecord
from cachify_tasks.testing import Kind
from tests.support.bench import BUSY, CALM, HOUR, PREFIX, SCHEMA, Bench
from tests.support.stores import opened


def test_a_sound_store_has_no_problem(bench):
    assert bench.found() == bench.found(settled=True) == []
    testing.assert_sound(bench.url, prefix=PREFIX, settled=True)


def raw(*command: Any) -> Callable[[Bench], None]:
    return lambda bench: bench.client.execute_command(*command)


def both(*steps: Callable[[Bench], Any]) -> Callable[[Bench], None]:
    def do(bench: Bench) -> None:
        for step in steps:
            step(bench)

    return do


def rank_of(bench: Bench, holder: str) -> float:
    return float(bench.client.zscore(BUSY.queue, holder))


def park(bench: Bench, holder: str, **record: Any) -> None:
    """Give this holder a ticket, by raw commands."""
    made = TicketRecord("task/x", 0, rank=7, arrived=7)._replace(**record).encoded()
    bench.client.hset(BUSY.tickets, mapping={f"ticket:{holder}": made, f"envelope:{holder}": "message"})


def rerank(bench: Bench, holder: str, rank: float) -> None:
    bench.client.zadd(BUSY.queue, {holder: rank})
    bench.edit_ticket(BUSY, holder, rank=int(rank))


OTHER_LAYOUT = Schema(PREFIX, "cluster")
BROKEN: list[tuple[str, Kind, Callable[[Bench], Any]]] = [
    ("more leases than the limit", "over-limit", raw("HSET", BUSY.state, "limit", 1)),
    ("perhaps it drains", "draining", raw("HSET", BUSY.state, "override", 1)),
    ("paused, perhaps it drains", "draining", raw("HSET", BUSY.state, "override", 0)),
    ("a lease beyond its hard limit", "over-hard-limit", lambda b: b.edit(BUSY, "a", 3, b.now)),
    ("a free slot, a ticket, no reaper", "free-beside-waiting", raw("HSET", BUSY.state, "limit", 3)),
    (
        "the slot of a crashed task, its ticket, no reaper", "free-beside-waiting",
        both(
            raw("DEL", BUSY.queue),
            raw("DEL", BUSY.tickets),
            lambda b: park(b, "a"),
            lambda b: b.client.zadd(BUSY.slots, {"a": b.now - HOUR}),
        ),
    ),
    (
        "a ticket without its message", "queued-without-envelope",
        raw("HDEL", BUSY.tickets, "envelope:c", "ticket:c"),
    ),
    (
        "a holder of a slot waits, too", "queued-and-held",
        both(lambda b: park(b, "a"), lambda b: b.client.zadd(BUSY.queue, {"a": 7})),
    ),
    ("a message that nothing points to", "stranded-envelope", lambda b: park(b, "x")),
    (
        "reserved for a task that is gone", "reserved-without-envelope",
        both(
            lambda b: b.store.release("a", b.tokens["a"], pool="busy"),
            raw("HDEL", BUSY.tickets, "envelope:c", "ticket:c"),
        ),
    ),
    ("a message without its record", "ticket-without-record", raw("HDEL", BUSY.tickets, "ticket:c")),
    (
        "a record without its message", "ticket-without-envelope",
        lambda b: b.client.hset(BUSY.tickets, "ticket:x", TicketRecord("task/x", 0, 7, 7).encoded()),
    ),
    ("a waiter with a message", "ticket-of-wrong-kind", lambda b: b.edit_ticket(BUSY, "c", kind="waiter")),
    ("a rank that its ticket does not know", "rank-differs", lambda b: b.client.zadd(BUSY.queue, {"c": 5})),
    ("the name of a ticket that is gone", "misnamed-ticket", raw("HSET", BUSY.tickets, "task:t", "t:0")),
    ("a ticket under another task's name", "misnamed-ticket", raw("HSET", BUSY.tickets, "task:t", "c")),
    ("a ticket without its name", "misnamed-ticket", lambda b: b.edit_ticket(BUSY, "c", task_id="t")),
    ("a task that no worker has started", "nobody-starts-it", lambda b: b.edit_ticket(BUSY, "c", unused=11)),
    ("a slot without record", "slot-without-record", raw("HDEL", BUSY.state, "slot:a")),
    ("a record without slot", "record-without-slot", raw("HSET", CALM.state, "slot:x", "7|rid||0|7|label")),
    ("a record that is none", "bad-field", raw("HSET", BUSY.state, "slot:a", "rubbish")),
    ("a ticket that is none", "bad-field", raw("HSET", BUSY.tickets, "ticket:c", "rubbish")),
    ("a field that nobody knows", "bad-field", raw("HSET", BUSY.state, "colour", "red")),
    ("a field of a ticket that nobody knows", "bad-field", raw("HSET", BUSY.tickets, "colour:c", "red")),
    ("a limit that is no number", "bad-field", raw("HSET", CALM.state, "override", "many")),
    ("a counter that was set back", "counter-behind", raw("HSET", CALM.state, "counter", 5)),
    ("a rank from the future", "counter-behind", lambda b: rerank(b, "d", b.now + HOUR)),
    ("a token given twice", "token-twice", lambda b: b.edit(BUSY, "a", 0, b.tokens["b"])),
    ("a rank given twice", "rank-twice", lambda b: rerank(b, "d", rank_of(b, "c"))),
    (
        "a rank given twice, to one of a higher priority", "rank-twice",
        lambda b: rerank(b, "d", rank_of(b, "c") - 3 * 2**40),
    ),
    ("tickets that no script looks at", "keep-until-wrong", raw("HSET", BUSY.state, "keep_until", 1)),
    ("no tickets, for ever", "keep-until-wrong", raw("HSET", CALM.state, "keep_until", -1)),
    ("slots for ever", "immortal-key", raw("PERSIST", CALM.slots)),
    ("a state for ever", "immortal-key", raw("PERSIST", CALM.state)),
    ("a tombstone for ever", "immortal-key", raw("PERSIST", CALM.tombstone + "f")),
    ("an index of leases for ever", "immortal-key", raw("PERSIST", CALM.leased)),
    ("a claim for ever", "immortal-key", raw("SET", SCHEMA.claim("reaper"), "")),
    ("a note of the schema for ever", "immortal-key", raw("PERSIST", SCHEMA.marker)),
    ("messages that will expire", "mortal-key", raw("EXPIRE", BUSY.tickets, 1000)),
    ("a queue that will expire", "mortal-key", raw("EXPIRE", BUSY.queue, 1000)),
    ("slots that expire before their leases", "mortal-key", raw("EXPIRE", CALM.slots, 10)),
    ("a counter that expires before the leases", "mortal-key", raw("EXPIRE", CALM.state, 10)),
    ("tickets that no reaper finds", "not-indexed", raw("ZREM", BUSY.waiting, "busy")),
    ("leases that nobody finds", "not-indexed", raw("ZREM", CALM.leased, "calm")),
    ("a reaper called for nothing", "index-without-pool", raw("ZADD", CALM.waiting, 1, "calm")),
    (
        "a pool with leases that are gone", "index-without-pool",
        lambda b: (b.client.zadd(SCHEMA.pool("x").leased, {"x": b.now}), b.client.expire(SCHEMA.pool("x").leased, 99)),
    ),
    ("a pool of the other layout", "unknown-key", raw("ZADD", OTHER_LAYOUT.pool("busy").slots, 1, "a")),
    ("an index of the other layout", "unknown-key", raw("ZADD", OTHER_LAYOUT.pool("busy").waiting, 1, "busy")),
    ("a note of the other layout", "unknown-key", raw("SET", SCHEMA.marker, OTHER_LAYOUT.version, "EX", 9)),
    ("a key of another version", "unknown-key", raw("SET", BUSY.slots.replace(":1:", ":2:"), 1)),
    ("a key of another kind", "unknown-key", raw("SET", SCHEMA.claim("x").replace(":claim:", ":lock:"), 1)),
    ("slots that are text", "wrong-type", raw("SET", BUSY.slots, "text")),
    ("an index that is text", "wrong-type", raw("SET", SCHEMA.pool("x").leased, "text", "EX", 9)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "sabotage"), [pytest.param(kind, how, id=name) for name, kind, how in BROKEN])
def test_a_broken_invariant_is_reported_by_its_name(bench, kind, sabotage):
    sabotage(bench)

    found = bench.found()

    assert {problem.kind for problem in found} == {kind}
    assert all(problem.note == (kind == "draining") for problem in found)
    assert str(found[0]).startswith(f"{kind}: ")


def test_every_invariant_is_among_the_broken_ones():
    assert {kind for _, kind, _ in BROKEN} | {"reaper-due"} == set(get_args(Kind))


def test_a_free_slot_that_a_reaper_is_called_for_is_reported_when_all_is_settled(bench):
    bench.client.hset(BUSY.state, "limit", 3)
    bench.client.zadd(BUSY.waiting, {"busy": bench.now - HOUR})

    assert bench.found() == []
    assert [problem.kind for problem in bench.found(settled=True)] == ["reaper-due"]


def test_without_the_index_nobody_fills_a_free_slot(bench):
    bench.client.hset(BUSY.state, "limit", 3)
    bench.client.zrem(BUSY.waiting, "busy")

    assert {problem.kind for problem in bench.found()} == {"not-indexed", "free-beside-waiting"}


def test_what_may_be_so_is_no_problem(bench):
    client = bench.client
    client.set(SCHEMA.cache("for ever"), "value")  # cached without ttl
    client.set("t[-]*lock-of-another-program", "x")  # the prefix alone is nobody's
    client.zadd(SCHEMA.pool("old").leased, {"old": bench.now - 48 * HOUR})  # its keys have expired since
    client.expire(SCHEMA.pool("old").leased, 99)
    rerank(bench, "d", rank_of(bench, "d") - 200 * 2**40)  # a higher priority
    for name in ("a:tombstone:b:slots", "slots", "tombstone:", ":", "pool:x:state", "é"):
        token = bench.store.plain("h:0:tombstone:x", pool=name).token
        bench.store.plain("i", 3, pool=name)
        bench.store.release("h:0:tombstone:x", token, pool=name)

    assert bench.found() == []


def test_a_limit_set_at_run_time_keeps_its_pools_state_for_ever(redis_url):
    with opened("redis-sync", redis_url) as store:
        store.configure(3)

        assert testing.check(redis_url, prefix="t") == []
        store.configure(None)
