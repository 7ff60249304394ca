"""All that a store knows of one pool at one moment, in one form for both stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from .._core.keys import Schema
from .._store import records
from .._store.memory_pool import Pool
from .._store.memory_store import MemoryStore

KEYS: Final = ("slots", "state", "queue", "tickets", "waiting", "leased")
TYPES: Final = {
    "slots": "zset",
    "state": "hash",
    "queue": "zset",
    "tickets": "hash",
    "waiting": "zset",
    "leased": "zset",
}
SCRIPT: Final = files("cachify_tasks.testing").joinpath("snapshot.lua").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Keys:
    """What is only on a server.

    Attributes:
        types: of the keys, by their names in `KEYS`.
        ttls: ms; -1: none, -2: there is no such key.
        waiting, leased: the pool's scores in its indexes; None: it is not there.
    """

    types: dict[str, str]
    ttls: dict[str, int]
    waiting: float | None
    leased: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One pool.

    Attributes:
        pool: its key.
        now: the store's clock, µs.
        state: its fields, as in `_store.records`.
        slots: holder -> deadline.
        queue: holder -> rank.
        tickets: their fields; envelopes are left out, an empty text stands for each.
        keys: None in memory.
    """

    pool: str
    now: float
    state: dict[str, str]
    slots: dict[str, float]
    queue: dict[str, float]
    tickets: dict[str, str]
    keys: Keys | None = None


def from_memory(store: MemoryStore) -> list[Snapshot]:
    """All pools of a memory, at one moment."""
    with store._lock:
        now = store._clock()
        return [_of_memory(name, pool, now) for name, pool in store._pools.items()]


def _of_memory(name: str, pool: Pool, now: int) -> Snapshot:
    state = {"counter": str(pool.counter), "limit": str(pool.given_limit)}
    if pool.override is not None:
        state["override"] = str(pool.override)
    state |= {records.SLOT + holder: slot.encoded() for holder, slot in pool.slots.items()}
    tickets = {records.TICKET + holder: ticket.encoded() for holder, ticket in pool.tickets.items()}
    tickets |= {records.ENVELOPE + holder: "" for holder in pool.envelopes}
    tickets |= {records.CHANNEL + holder: channel for holder, channel in pool.channels.items()}
    tickets |= {records.TASK + task: holder for task, holder in pool.tasks.items()}
    return Snapshot(name, now, state, dict(pool.deadlines), dict(pool.queue), tickets)


def from_server(client: Any, schema: Schema, pool: str, now: str = "") -> Snapshot:
    """One pool of a server, read by one script; now: in place of the server's clock."""
    keys = schema.pool(pool)[: len(KEYS)]
    reply = client.eval(SCRIPT, len(keys), *keys, now, pool, records.ENVELOPE)
    clock, types, ttls, slots, state, queue, tickets, waiting, leased = reply
    found = Keys(
        dict(zip(KEYS, map(text, types), strict=True)),
        dict(zip(KEYS, ttls, strict=True)),
        float(waiting) if waiting else None,
        float(leased) if leased else None,
    )
    return Snapshot(
        pool, float(clock), dict(_pairs(state)), _scores(slots), _scores(queue), dict(_pairs(tickets)), found
    )


def _pairs(flat: Sequence[bytes]) -> list[tuple[str, str]]:
    return list(zip(map(text, flat[::2]), map(text, flat[1::2]), strict=True))


def _scores(flat: Sequence[bytes]) -> dict[str, float]:
    return {member: float(score) for member, score in _pairs(flat)}


def text(value: bytes | str) -> str:
    """For people to read: a store that is broken may hold anything."""
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")
