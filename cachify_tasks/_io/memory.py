"""The store in this process's memory: the same commands with the same answers as the Lua scripts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, assert_never

from .._core.commands import (
    Acquire,
    Command,
    Configure,
    Delete,
    Get,
    Heir,
    HolderView,
    Look,
    Pools,
    PoolView,
    Put,
    Release,
    Renew,
    Reply,
    Size,
    Status,
    Sweep,
    Withdraw,
)

BATCH: Final = 64  # as in common.lua
NEVER: Final = 2**63
KEEP: Final = 86_400_000_000  # µs that a lease which no script has noticed outlives its deadline, as keys in Redis do
PURGE_EVERY: Final = 256  # commands at least between two looks for what has had its time

_EPOCH: Final = time.time_ns() // 1000 - time.monotonic_ns() // 1000


def _server_time() -> int:
    """Microseconds since the epoch, by a clock that nobody sets: this store's server is this process."""
    return _EPOCH + time.monotonic_ns() // 1000


class _Slot(NamedTuple):
    token: int
    place: float
    rid: str  # empty: reserved for a heir that has not started
    deadline: int
    hard: int
    since: int
    label: str


class _Last(NamedTuple):
    """The last reply about a holder that has left."""

    final: bool = False
    token: int = -1
    status: Status | None = None
    heirs: tuple[Heir, ...] = ()
    until: int = 0


@dataclass(slots=True)
class _Pool:
    counter: int = 0
    given: int = 0
    earliest: int = 0  # no deadline lies before it
    override: int | None = None
    slots: dict[str, _Slot] = field(default_factory=dict)
    queue: dict[str, float] = field(default_factory=dict)
    tickets: dict[str, bytes] = field(default_factory=dict)
    done: dict[str, _Last] = field(default_factory=dict)

    @property
    def limit(self) -> int:
        return self.given if self.override is None else self.override

    @property
    def idle(self) -> bool:
        return not (self.slots or self.tickets or self.done or self.override is not None)


class MemoryStore:
    """Slots and cached values in this process; for tests, and for programs that are one process.

    Args:
        clock: the time in microseconds; tests pass one that they move.
    """

    shown = "memory"
    local = True  # answers at once: no thread, no loop, no outage

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock or _server_time
        self._lock = threading.RLock()
        self._pools: dict[str, _Pool] = {}
        self._values: dict[str, tuple[bytes, int | None]] = {}
        self._until_purge = PURGE_EVERY

    def execute(self, command: Command) -> Any:
        with self._lock:
            now = self._clock()
            self._until_purge -= 1
            if self._until_purge < 0:
                self._purge(now)
            return self._answer(command, now)

    async def aexecute(self, command: Command) -> Any:
        return self.execute(command)

    def execute_many(self, commands: list[Command]) -> list[Any]:
        return [self.execute(command) for command in commands]

    def eviction(self) -> str:
        """Nothing is evicted."""
        return "noeviction"

    def close(self) -> None:
        """Nothing is open; for symmetry with other stores."""

    async def aclose(self) -> None:
        """Nothing is open; for symmetry with other stores."""

    def reset_after_fork(self) -> None:
        self._lock = threading.RLock()

    def _answer(self, command: Command, now: int) -> Any:
        match command:
            case Get(key):
                value, until = self._values.get(key, (None, None))
                return None if until is not None and until <= now else value
            case Put(key, value, ttl_ms):
                self._values[key] = value, None if ttl_ms is None else now + ttl_ms * 1000
                return None
            case Delete(key):
                self._values.pop(key, None)
                return None
            case Pools():
                return sorted(name for name, pool in self._pools.items() if pool.slots or pool.tickets)
            case Size(name):
                return sum(slot.deadline >= now for slot in self._pool(name).slots.values())
            case Look(name):
                return _view(name, self._pool(name), now)
            case _:
                script = _Script(self._pools.setdefault(command.pool, _Pool()), now)
                return script.run(command)

    def _pool(self, name: str) -> _Pool:
        return self._pools.get(name) or _Pool()

    def _purge(self, now: int) -> None:
        """Forget what nobody may ask for again; and again after as many commands as there are things that stay."""
        for key in [k for k, (_, until) in self._values.items() if until is not None and until <= now]:
            del self._values[key]
        stay = len(self._values)
        for name, pool in list(self._pools.items()):
            for holder in [h for h, last in pool.done.items() if last.until <= now]:
                del pool.done[holder]
            for holder in [h for h, s in pool.slots.items() if s.deadline + KEEP < now and h not in pool.tickets]:
                del pool.slots[holder]
            if pool.idle:
                del self._pools[name]
            else:
                stay += 1 + len(pool.done) + len(pool.slots)
        self._until_purge = max(PURGE_EVERY, stay)


def _view(name: str, pool: _Pool, now: int) -> PoolView:
    live = sorted((s.deadline, h, s) for h, s in pool.slots.items() if s.deadline >= now)
    holders = (
        HolderView(h, s.token, s.label, not s.rid, s.since / 1e6, (deadline - now) / 1e6) for deadline, h, s in live
    )
    return PoolView(name, pool.limit, len(pool.queue), tuple(holders))


class _Script:
    """One command on one pool at one moment; the twin of the Lua files, name by name."""

    def __init__(self, pool: _Pool, now: int) -> None:
        self.pool, self.now = pool, now

    def run(self, command: Acquire | Renew | Release | Withdraw | Sweep | Configure) -> Reply:
        match command:
            case Acquire():
                return self.acquire(command)
            case Renew():
                return self.renew(command)
            case Release():
                return self.release(command)
            case Withdraw():
                return self.withdraw(command)
            case Sweep():
                self.expire()
                return self.reply("swept", 0, heirs=self.reserve(command.start_ms))
            case Configure():
                self.pool.override = command.limit
                return self.reply("configured", 0)
            case _:
                assert_never(command)

    def acquire(self, c: Acquire) -> Reply:
        pool, was = self.pool, 0
        if c.limit > 0 and pool.given != c.limit:
            was, pool.given = pool.given, c.limit
        self.expire()
        heirs = self.reserve(c.start_ms) if c.starts else ()
        slot, status, token = pool.slots.get(c.holder), "granted", 0
        if slot and slot.rid == c.rid:  # sent again: the reply was lost
            token = slot.token
        elif slot and not slot.rid:  # its reserved slot: whoever comes first starts it
            token = self.take(c, slot.token, slot.place)
        elif c.holder in pool.queue:
            status = "parked"
        else:
            barred = c.nudge or (not c.fresh and self.last(c.holder).final)
            if slot:  # runs elsewhere, or did until a crash that nobody has noticed
                status = "dropped" if barred else "standby"
                if not barred and c.envelope:
                    pool.tickets.setdefault(c.holder, c.envelope)
            elif barred:
                status = "dropped"
            elif not pool.queue and len(pool.slots) < pool.limit:
                drawn = self.draw()
                token = self.take(c, drawn, drawn)
            elif c.park:
                status = "parked"
                pool.queue[c.holder] = self.draw()
                pool.tickets[c.holder] = c.envelope
            else:
                status = "full"
        return self.reply(status, token, was, heirs)  # type: ignore[arg-type]

    def take(self, c: Acquire, token: int, place: float) -> int:
        lease, hard = c.lease_ms * 1000, c.hard_ms * 1000
        deadline = self.now + (min(lease, hard) if hard else lease)
        limit = self.now + hard if hard else 0
        self.put(c.holder, _Slot(token, place, c.rid, deadline, limit, self.now, c.label))
        return token

    def renew(self, c: Renew) -> Reply:
        slot, status = self.pool.slots.get(c.holder), "lost"
        if slot and slot.token == c.token and (not slot.hard or self.now < slot.hard):
            deadline = self.now + c.lease_ms * 1000
            deadline = min(deadline, slot.hard) if slot.hard else deadline
            self.put(c.holder, slot._replace(deadline=deadline))
            if c.acked:
                self.pool.tickets.pop(c.holder, None)
            status = "renewed"
        return self.reply(status, c.token)  # type: ignore[arg-type]

    def release(self, c: Release) -> Reply:
        pool, slot, last, token = self.pool, self.pool.slots.get(c.holder), self.last(c.holder), c.token
        again, status = c.again and not last.final, "released"
        if slot and slot.rid and (slot.token == token or (not token and slot.rid == c.rid)):
            token = slot.token
            self.bury(c.holder, c.tomb_ms, _Last(not again, token, "released"))  # first: a signal can strike in between
            del pool.slots[c.holder]
            if not again:
                pool.tickets.pop(c.holder, None)
            elif c.holder in pool.tickets:
                self.back(c.holder, slot.place)
        elif last.token == token and last.status:  # sent again
            return self.reply(last.status, token, heirs=last.heirs)
        elif again or last.final or (slot and slot.rid):  # another run has it
            return self.reply("lost", token)
        else:  # the lease was lost, yet the run reached its end and no second one has started: none shall
            status = "lost"
            for home in (pool.slots, pool.queue, pool.tickets):
                home.pop(c.holder, None)
        self.expire()
        heirs = self.reserve(c.start_ms) if c.starts else ()
        self.bury(c.holder, c.tomb_ms, _Last(not again, token, status, heirs))  # type: ignore[arg-type]
        return self.reply(status, token, heirs=heirs)  # type: ignore[arg-type]

    def withdraw(self, c: Withdraw) -> Reply:
        pool, last, slot = self.pool, self.last(c.holder), self.pool.slots.get(c.holder)
        if last.final:  # sent again, or it has left already
            return self.reply("withdrawn", 0, heirs=last.heirs)
        if slot and not slot.rid:
            del pool.slots[c.holder]
        pool.queue.pop(c.holder, None)
        pool.tickets.pop(c.holder, None)
        self.expire()
        heirs = self.reserve(c.start_ms) if c.starts else ()
        self.bury(c.holder, c.tomb_ms, _Last(True, 0, "withdrawn", heirs))
        return self.reply("withdrawn", 0, heirs=heirs)

    def expire(self) -> None:
        pool = self.pool
        if self.now <= pool.earliest:
            return
        for _, holder in sorted((s.deadline, h) for h, s in pool.slots.items() if s.deadline < self.now):
            slot = pool.slots.pop(holder)
            if holder in pool.tickets:
                self.back(holder, slot.place)
        pool.earliest = min((s.deadline for s in pool.slots.values()), default=NEVER)

    def put(self, holder: str, slot: _Slot) -> None:
        self.pool.slots[holder] = slot
        self.pool.earliest = min(self.pool.earliest, slot.deadline)

    def reserve(self, start_ms: int) -> tuple[Heir, ...]:
        pool, heirs = self.pool, []
        free = min(pool.limit - len(pool.slots), BATCH)
        if free > 0 and pool.queue:
            for holder in sorted(pool.queue, key=lambda h: (pool.queue[h], h))[:free]:
                token, place = self.draw(), pool.queue.pop(holder)
                deadline = self.now + start_ms * 1000
                self.put(holder, _Slot(token, place, "", deadline, 0, self.now, ""))
                heirs.append(Heir(holder, token))
        return tuple(heirs)

    def back(self, holder: str, place: float) -> None:
        self.pool.queue[holder] = (self.draw() if place % 1 else place) + 0.5

    def draw(self) -> int:
        self.pool.counter = max(self.pool.counter + 1, self.now)
        return self.pool.counter

    def last(self, holder: str) -> _Last:
        last = self.pool.done.get(holder, _Last())
        return last if last.until > self.now else _Last()

    def bury(self, holder: str, life_ms: int, last: _Last) -> None:
        self.pool.done[holder] = last._replace(until=self.now + life_ms * 1000)

    def reply(self, status: Status, token: int, was: int = 0, heirs: tuple[Heir, ...] = ()) -> Reply:
        slots = self.pool.slots
        still = tuple(h for h in heirs if h.holder in slots and _waits(slots[h.holder], h.token))
        return Reply(status, token, len(slots), self.pool.limit, was, still)


def _waits(slot: _Slot, token: int) -> bool:
    return not slot.rid and slot.token == token
