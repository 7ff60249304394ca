"""Who waits in the queue of a pool."""

from __future__ import annotations

from cachify_tasks import Cachify, testing
from cachify_tasks._core.commands import Inspect
from tests.support.waiting import wait_until


def waiting(cachify: Cachify, key: str = "p") -> int:
    """How many do."""
    return int(cachify._runtime.store.execute(Inspect(key)).waiting)


def queued(cachify: Cachify, count: int, key: str = "p") -> None:
    """Returns when so many do."""
    wait_until(lambda: waiting(cachify, key) == count, message=f"{count} in the queue")


def nothing_is_left(cachify: Cachify) -> None:
    """Returns when the pool "p" has neither holders nor waiters; all of the store must be in order then."""
    left = "the end of all, long before a reserved slot ends by itself"
    wait_until(lambda: (cachify.pool("p", max_size=1).size(), waiting(cachify)) == (0, 0), 8, left)
    testing.assert_sound(cachify, settled=True)
