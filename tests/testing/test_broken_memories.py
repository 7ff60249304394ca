"""The checker on a memory."""

from collections.abc import Callable
from typing import Any

import pytest

from cachify_tasks import Cachify, init_cachify, testing
from cachify_tasks._store.memory_store import MemoryStore
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


BROKEN_MEMORY: list[tuple[Kind, Callable[[Any], Any]]] = [
    ("over-limit", lambda p: setattr(p, "given", 1)),
    ("draining", lambda p: setattr(p, "override", 1)),
    ("over-hard-limit", lambda p: p.slots.update(a=p.slots["a"]._replace(hard=1))),
    ("reaper-due", lambda p: setattr(p, "given", 3)),
    ("queued-without-envelope", lambda p: p.tickets.pop("c")),
    ("queued-and-held", lambda p: (p.tickets.update(a=b"m"), p.queue.update(a=p.slots["a"].place))),
    ("stranded-envelope", lambda p: p.tickets.update(x=b"m")),
    ("reserved-without-envelope", lambda p: p.slots.update(a=p.slots["a"]._replace(request_id=""))),
    ("counter-behind", lambda p: setattr(p, "counter", 7)),
    ("token-twice", lambda p: p.slots.update(a=p.slots["a"]._replace(token=p.slots["b"].token))),
    ("place-twice", lambda p: p.queue.update(c=p.queue["d"])),
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
    broken.given = 3

    assert testing.check(cachify) == []
