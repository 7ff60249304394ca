"""`events`: what happens to slots in this process, for tests to look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .._runtime.events import Event, add_listener, remove_listener


@contextmanager
def events() -> Iterator[list[Event]]:
    """While the block lasts, collect the events of this process, in the order in which they happen.

    That holds for every instance and thread of this process. Workers that run in other processes, and their children,
    have events of their own. The log is written as always.

    Returns:
        list: frozen objects with attributes, such as `SlotGranted`, `PoolFull` and `SlotReleased`.

    Example:
        >>> from cachify_tasks import pool, testing
        >>> with testing.memory(), testing.events() as seen:
        ...     with pool("reports", max_size=1):
        ...         pass
        >>> [type(event).__name__ for event in seen]
        ['SlotGranted', 'SlotReleased']
        >>> seen[0].pool, seen[0].limit, seen[0].held
        ('reports', 1, 1)
    """
    seen: list[Event] = []
    listener = seen.append
    add_listener(listener)
    try:
        yield seen
    finally:
        remove_listener(listener)
