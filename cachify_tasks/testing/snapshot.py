"""All that a store knows of one pool at one moment, in one form for both stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from .._core.keys import Schema
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
        lives: ms; -1: for ever, -2: there is no such key.
        waiting, leased: the pool's scores in the indexes of its bucket; None: it is not there.
    """

    types: dict[str, str]
    lives: dict[str, int]
    waiting: float | None
    leased: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One pool.

    Attributes:
        pool: its key.
        now: the store's clock, µs.
        fields: of the state, as in `_core.keys`.
        slots: holder -> deadline.
        queue: holder -> place.
        tickets: the holders whose envelope is kept.
        keys: None in memory.
    """

    pool: str
    now: float
    fields: dict[str, str]
    slots: dict[str, float]
    queue: dict[str, float]
    tickets: frozenset[str]
    keys: Keys | None = None


def from_memory(store: MemoryStore) -> list[Snapshot]:
    """All pools of a memory, at one moment."""
    with store._lock:
        now = store._clock()
        return [_of_memory(name, pool, now) for name, pool in store._pools.items()]


def _of_memory(name: str, pool: Any, now: int) -> Snapshot:
    fields = {"counter": str(pool.counter), "limit": str(pool.given)}
    if pool.override is not None:
        fields["override"] = str(pool.override)
    for holder, slot in pool.slots.items():
        record = slot.token, f"{slot.place:.17g}", slot.request_id, slot.hard, slot.since, slot.label
        fields[f"={holder}"] = "|".join(map(str, record))
    fields |= {f"@{task}": holder for task, holder in pool.found.items()}
    slots = {holder: slot.deadline for holder, slot in pool.slots.items()}
    return Snapshot(name, now, fields, slots, dict(pool.queue), frozenset(pool.tickets))


def from_server(client: Any, schema: Schema, pool: str, now: str = "") -> Snapshot:
    """One pool of a server, read by one script; now: in place of the server's clock."""
    keys = schema.pool(pool)[: len(KEYS)]
    reply = client.eval(SCRIPT, len(keys), *keys, now, pool)
    clock, types, lives, slots, state, queue, tickets, waiting, leased = reply
    found = Keys(
        dict(zip(KEYS, map(text, types), strict=True)),
        dict(zip(KEYS, lives, strict=True)),
        float(waiting) if waiting else None,
        float(leased) if leased else None,
    )
    return Snapshot(
        pool, float(clock), dict(_pairs(state)), _scores(slots), _scores(queue), frozenset(map(text, tickets)), found
    )


def _pairs(flat: Sequence[bytes]) -> list[tuple[str, str]]:
    return list(zip(map(text, flat[::2]), map(text, flat[1::2]), strict=True))


def _scores(flat: Sequence[bytes]) -> dict[str, float]:
    return {member: float(score) for member, score in _pairs(flat)}


def text(value: bytes | str) -> str:
    """For people to read: a store that is broken may hold anything."""
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")
