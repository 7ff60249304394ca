"""Each invariant, broken on purpose by raw commands, is reported by its name; what is sound is not."""

from collections.abc import Callable
from typing import Any, get_args

import pytest

from cachify_tasks import testing
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


def place_of(bench: Bench, holder: str) -> float:
    return float(bench.client.zscore(BUSY.queue, holder))


WRONG_BUCKET = f"{SCHEMA.bucket(7)}:pool:busy:slots"
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
            raw("HDEL", BUSY.tickets, "c", "d"),
            raw("HSET", BUSY.tickets, "a", "message"),
            lambda b: b.client.zadd(BUSY.slots, {"a": b.now - HOUR}),
        ),
    ),
    ("a ticket without its message", "queued-without-envelope", raw("HDEL", BUSY.tickets, "c")),
    (
        "who has a slot waits, too", "queued-and-held",
        both(
            raw("HSET", BUSY.tickets, "a", "message"),
            lambda b: b.client.zadd(BUSY.queue, {"a": b.tokens["a"]}),
        ),
    ),
    ("a message that nothing points to", "stranded-envelope", raw("HSET", BUSY.tickets, "x", "message")),
    (
        "reserved for a task that is gone", "reserved-without-envelope",
        both(
            lambda b: b.store.release("a", b.tokens["a"], pool="busy"),
            raw("HDEL", BUSY.tickets, "c"),
        ),
    ),
    ("the name of a ticket that is gone", "misnamed-ticket", raw("HSET", BUSY.state, "@task", "task:0")),
    ("a ticket under another task's name", "misnamed-ticket", raw("HSET", BUSY.state, "@task", "c")),
    (
        "a ticket without its name", "misnamed-ticket",
        both(
            lambda b: b.client.zadd(BUSY.queue, {"task:0": place_of(b, "d") - 7}),
            raw("HSET", BUSY.tickets, "task:0", "message"),
            raw("HDEL", BUSY.state, "@task"),
        ),
    ),
    ("a slot without record", "slot-without-record", raw("HDEL", BUSY.state, "=a")),
    ("a record without slot", "record-without-slot", raw("HSET", CALM.state, "=x", "7|7|rid|0|7|label")),
    ("a record that is none", "bad-field", raw("HSET", BUSY.state, "=a", "rubbish")),
    ("a field that nobody knows", "bad-field", raw("HSET", BUSY.state, "colour", "red")),
    ("a limit that is no number", "bad-field", raw("HSET", CALM.state, "override", "many")),
    ("a counter that was set back", "counter-behind", raw("HSET", CALM.state, "counter", 5)),
    ("a place from the future", "counter-behind", lambda b: b.client.zadd(BUSY.queue, {"d": b.now + HOUR})),
    ("a token given twice", "token-twice", lambda b: b.edit(BUSY, "a", 0, b.tokens["b"])),
    ("a place given twice", "place-twice", lambda b: b.client.zadd(BUSY.queue, {"d": place_of(b, "c")})),
    (
        "a place given twice, to one of a higher priority that has come back", "place-twice",
        lambda b: b.client.zadd(BUSY.queue, {"d": place_of(b, "c") - 3 * 2**40 + 0.5}),
    ),
    ("tickets that no script looks at", "lives-wrong", raw("HSET", BUSY.state, "lives", 1)),
    ("no tickets, for ever", "lives-wrong", raw("HSET", CALM.state, "lives", -1)),
    ("slots for ever", "immortal-key", raw("PERSIST", CALM.slots)),
    ("a state for ever", "immortal-key", raw("PERSIST", CALM.state)),
    ("a tombstone for ever", "immortal-key", raw("PERSIST", CALM.done + "f")),
    ("an index of leases for ever", "immortal-key", raw("PERSIST", CALM.leased)),
    ("a claim for ever", "immortal-key", raw("SET", f"{PREFIX}:1:reaper", "")),
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
    ("a pool in another's index", "index-without-pool", raw("ZADD", f"{SCHEMA.bucket(7)}:waiting", 1, "busy")),
    ("a pool in another bucket", "unknown-key", raw("ZADD", WRONG_BUCKET, 1, "a")),
    ("a key of another version", "unknown-key", raw("SET", BUSY.slots.replace(":1:", ":2:"), 1)),
    ("a key of another kind", "unknown-key", raw("SET", f"{PREFIX}:1:lock:x", 1)),
    ("slots that are text", "wrong-type", raw("SET", BUSY.slots, "text")),
    ("an index that is text", "wrong-type", raw("SET", f"{SCHEMA.bucket(7)}:leased", "text", "EX", 9)),
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
    client.zadd(BUSY.queue, {"d": place_of(bench, "d") - 200 * 2**40})  # a higher priority
    for name in ("a:done:b:slots", "slots", "done:", ":", "pool:x:state", "é"):
        token = bench.store.plain("h:0:done:x", pool=name).token
        bench.store.plain("i", 3, pool=name)
        bench.store.release("h:0:done:x", token, pool=name)

    assert bench.found() == []


def test_a_limit_set_at_run_time_keeps_its_pools_state_for_ever(redis_url):
    with opened("redis-sync", redis_url) as store:
        store.configure(3)

        assert testing.check(redis_url, prefix="t") == []
        store.configure(None)
