"""What a store in memory tells of a pool without changing it: the twin of the Lua files that write nothing."""

from __future__ import annotations

from .._core.commands import Find
from .._core.replies import Found, HolderView, PoolView, Room
from .memory_pool import Pool


def size(pool: Pool, now: int) -> int:
    """How many slots are held now, expired ones not counted."""
    return sum(deadline >= now for deadline in pool.deadlines.values())


def look(pool: Pool, now: int) -> Room:
    """Is there room?"""
    return Room(size(pool, now), len(pool.queue), pool.override)


def find(pool: Pool, command: Find) -> list[Found]:
    """The tickets of some tasks."""
    found = []
    for holder in [pool.tasks[task] for task in command.tasks if task in pool.tasks]:
        slot = pool.slots.get(holder)
        waits = slot is None or slot.reserved
        found.append(Found(holder, pool.envelopes.get(holder, b""), waits, pool.tickets[holder].kind))
    return found


def inspect(name: str, pool: Pool, now: int) -> PoolView:
    """Who holds what."""
    live = sorted((deadline, holder) for holder, deadline in pool.deadlines.items() if deadline >= now)
    holders = []
    for deadline, holder in live:
        slot = pool.slots[holder]
        expires_in = (deadline - now) / 1e6
        holders.append(HolderView(holder, slot.token, slot.label, slot.reserved, slot.since / 1e6, expires_in))
    return PoolView(name, pool.limit, len(pool.queue), tuple(holders))
