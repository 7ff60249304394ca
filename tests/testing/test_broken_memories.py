"""The checker on a memory."""

from collections.abc import Callable
from typing import Any

import pytest

from cachify_tasks import Cachify, init_cachify, testing
from cachify_tasks._store.memory_store import MemoryStore
from cachify_tasks._store.records import TicketRecord
from cachify_tasks.testing import Kind
from tests.support.stores import Store


def memory_pool() -> tuple[Cachify, Any]:
    """A bench in memory: a and b run, c and d wait."""
    cachify = init_cachify(is_global=False)
    store = cachify._runtime.store
    assert isinstance(store, MemoryStore)
    for name in "abcd":
        Store(store).acquire(name, 2)
    return cachify, store._pools["tenant-a"]


def park(pool: Any, holder: str) -> int:
    """Give the holder a ticket; return its rank."""
    pool.tickets[holder] = TicketRecord("task/x", 0, rank=7, arrived=7)
    pool.envelopes[holder] = b"m"
    return 7


BROKEN_MEMORY: list[tuple[Kind, Callable[[Any], Any]]] = [
    ("over-limit", lambda p: setattr(p, "given_limit", 1)),
    ("draining", lambda p: setattr(p, "override", 1)),
    ("over-hard-limit", lambda p: p.slots.update(a=p.slots["a"]._replace(hard_limit=1))),
    ("reaper-due", lambda p: setattr(p, "given_limit", 3)),
    ("queued-without-envelope", lambda p: (p.tickets.pop("c"), p.envelopes.pop("c"))),
    ("queued-and-held", lambda p: p.queue.update({"a": park(p, "a")})),
    ("stranded-envelope", lambda p: park(p, "x")),
    ("reserved-without-envelope", lambda p: p.slots.update(a=p.slots["a"]._replace(request_id=""))),
    ("counter-behind", lambda p: setattr(p, "counter", 7)),
    ("token-twice", lambda p: p.slots.update(a=p.slots["a"]._replace(token=p.slots["b"].token))),
    ("rank-twice", lambda p: (p.queue.update(c=p.queue["d"]), p.tickets.update(c=p.tickets["d"]))),
]


@pytest.mark.parametrize(("kind", "sabotage"), [pytest.param(kind, how, id=kind) for kind, how in BROKEN_MEMORY])
def test_a_broken_memory_is_reported_too(kind, sabotage):
    cachify, broken = memory_pool()
    sound = testing.check(cachify, settled=True)

    sabotage(broken)

    assert sound == []
    assert {problem.kind for problem in testing.check(cachify, settled=True)} == {kind}


def test_in_memory_a_reaper_may_always_come():
    cachify, broken = memory_pool()
    broken.given_limit = 3

    assert testing.check(cachify) == []
