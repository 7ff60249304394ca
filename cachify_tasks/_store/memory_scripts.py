"""One pool in memory, and the twin of the Lua files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias, assert_never

from .._core.commands import (
    Acquire,
    Configure,
    Found,
    Heir,
    HolderView,
    PoolCommand,
    PoolView,
    Release,
    Renew,
    Reply,
    SlotRequest,
    StartReserved,
    Status,
    Sweep,
    Ticket,
    WaitInQueue,
    Withdraw,
)

WAITER: Final = b"~"  # begins the envelope of a function that waits
BATCH: Final = 64  # these as in common.lua
PATIENCE: Final = 3
LEVEL: Final = 2**40
AHEAD: Final = 2**32
MARGIN: Final = 86_400_000_000  # µs
NEVER: Final = 2**63

Call: TypeAlias = tuple[str, str, int]  # channel, holder, token: a slot has been reserved for a waiter


class Slot(NamedTuple):
    token: int
    place: float
    request_id: str  # empty: reserved for a heir that has not started
    deadline: int
    hard: int
    since: int
    label: str  # of a reserved one: whom it is bound to


class Last(NamedTuple):
    """The last reply about a holder that has left."""

    final: bool = False
    token: int = -1
    status: Status | None = None
    heirs: tuple[tuple[str, int], ...] = ()  # their holders and tokens
    until: int = 0


@dataclass(slots=True)
class Pool:
    counter: int = 0
    given: int = 0
    earliest: int = 0  # no deadline lies before it
    due: int = 0  # with tickets: when a reaper is due
    override: int | None = None
    slots: dict[str, Slot] = field(default_factory=dict)
    queue: dict[str, float] = field(default_factory=dict)
    tickets: dict[str, bytes] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)  # task -> its holder with a ticket
    missed: dict[str, int] = field(default_factory=dict)  # holder -> its reservations that ended unused
    done: dict[str, Last] = field(default_factory=dict)

    @property
    def limit(self) -> int:
        return self.given if self.override is None else self.override

    @property
    def idle(self) -> bool:
        return not (self.slots or self.tickets or self.done or self.override is not None)


class _Request(NamedTuple):
    """The three commands that ask for a slot, in one form."""

    holder: str
    request_id: str
    limit: int
    lease_ms: int
    start_ms: int
    hard_ms: int
    label: str
    first_delivery: bool = False
    can_start_heirs: bool = False
    nudge: bool = False
    bound: str = ""
    envelope: bytes = b""
    park: bool = False
    priority: int = 0
    max_parked: int = 0


def _request(c: SlotRequest) -> _Request:
    common = (c.holder, c.request_id, c.limit, c.lease_ms, c.start_ms, c.slot_exp_ms, c.label)
    match c:
        case WaitInQueue():
            return _Request(*common, envelope=WAITER + c.channel.encode(), park=True)
        case StartReserved():
            return _Request(*common, can_start_heirs=c.can_start_heirs, nudge=True, bound=c.starter)
        case Acquire(ticket=ticket):
            kept = ticket or Ticket(kind="", envelope=b"", park=False)
            return _Request(
                *common, c.first_delivery, c.can_start_heirs,
                envelope=kept.envelope, park=kept.park, priority=kept.priority, max_parked=kept.max_parked,
            )  # fmt: skip


class Script:
    """One command on one pool at one moment; the twin of the Lua files, name by name."""

    def __init__(self, pool: Pool, now: int, calls: list[Call]) -> None:
        self.pool, self.now, self.calls = pool, now, calls

    def run(self, command: PoolCommand) -> Reply:
        match command:
            case Acquire() | StartReserved() | WaitInQueue():
                return self.acquire(_request(command))
            case Renew():
                return self.renew(command)
            case Release():
                return self.release(command)
            case Withdraw():
                return self.withdraw(command)
            case Sweep():
                return self.end("swept", 0, heirs=self.settle(command.start_ms, can_start_heirs=True))
            case Configure():
                self.pool.override = command.limit
                return self.end("configured", 0, heirs=self.settle(command.start_ms, command.can_start_heirs))
            case _:
                assert_never(command)

    def acquire(self, c: _Request) -> Reply:
        pool, previous_limit = self.pool, 0
        if c.limit > 0 and pool.given != c.limit:
            previous_limit, pool.given = pool.given, c.limit
        heirs = self.settle(c.start_ms, c.can_start_heirs, c.holder)
        slot, status, token = pool.slots.get(c.holder), "granted", 0
        if slot and slot.request_id == c.request_id:  # sent again: the reply was lost
            token = slot.token
        elif slot and not slot.request_id and slot.label in ("", c.bound):  # reserved: whoever comes first starts it
            token = self.take(c, slot.token, slot.place)
            if c.envelope.startswith(WAITER):  # there is no message to be kept until the end
                self.drop_ticket(c.holder)
        elif c.holder in pool.queue:
            status = "parked"
        else:
            barred = c.nudge or (not c.first_delivery and self.last(c.holder).final)
            if slot:  # runs elsewhere or is about to, or did until a crash that nobody has noticed
                status = "dropped" if barred else "standby"
                if not barred and c.envelope and c.holder not in pool.tickets:
                    self.put_ticket(c.holder, c.envelope)
            elif barred:
                status = "dropped"
            elif len(pool.slots) < pool.limit and self.goes_first(c):
                drawn = self.draw()
                token = self.take(c, drawn, drawn - c.priority * LEVEL)
            elif c.park and (not c.max_parked or len(pool.queue) < c.max_parked):
                status = "parked"
                self.put_ticket(c.holder, c.envelope)
                pool.queue[c.holder] = self.draw() - c.priority * LEVEL
            else:
                status = "full"
        return self.end(status, token, previous_limit, heirs)  # type: ignore[arg-type]

    def goes_first(self, c: _Request) -> bool:
        """With tickets in the queue a slot is left free only by who could not start the first of them."""
        pool = self.pool
        return not pool.queue or max(pool.counter + 1, self.now) - c.priority * LEVEL < min(pool.queue.values())

    def take(self, c: _Request, token: int, place: float) -> int:
        lease, hard = c.lease_ms * 1000, c.hard_ms * 1000
        deadline = self.now + (min(lease, hard) if hard else lease)
        limit = self.now + hard if hard else 0
        self.put(c.holder, Slot(token, place, c.request_id, deadline, limit, self.now, c.label))
        return token

    def renew(self, c: Renew) -> Reply:
        slot, status = self.pool.slots.get(c.holder), "lost"
        if slot and slot.token == c.token and (not slot.hard or self.now < slot.hard):
            deadline = self.now + c.lease_ms * 1000
            deadline = min(deadline, slot.hard) if slot.hard else deadline
            self.put(c.holder, slot._replace(deadline=deadline))
            if c.started:
                self.drop_ticket(c.holder)
            status = "renewed"
        return self.end(status, c.token)  # type: ignore[arg-type]

    def release(self, c: Release) -> Reply:
        pool, slot, last, token = self.pool, self.pool.slots.get(c.holder), self.last(c.holder), c.token
        requeue, status = c.requeue and not last.final, "released"
        if slot and slot.request_id and (slot.token == token or (not token and slot.request_id == c.request_id)):
            token = slot.token
            self.bury(
                c.holder, c.tomb_ms, Last(not requeue, token, "released")
            )  # first: a signal can strike in between
            del pool.slots[c.holder]
            if requeue:
                self.back(c.holder, slot.place)
            else:
                self.drop_ticket(c.holder)
        elif last.token == token and last.status:  # sent again
            return self.answer(last.status, token, heirs=self.waiting(last.heirs))
        elif requeue or last.final or (slot and slot.request_id):  # another run has it
            return self.answer("lost", token)
        else:  # the lease was lost, yet the run reached its end and no second one has started: none shall
            status = "lost"
            pool.slots.pop(c.holder, None)
            pool.queue.pop(c.holder, None)
            self.drop_ticket(c.holder)
        heirs = self.settle(c.start_ms, c.can_start_heirs, starter=c.request_id if c.reserve_for_me else "")
        self.bury(c.holder, c.tomb_ms, Last(not requeue, token, status, _names(heirs)))  # type: ignore[arg-type]
        return self.end(status, token, heirs=heirs)  # type: ignore[arg-type]

    def withdraw(self, c: Withdraw) -> Reply:
        pool, last, slot = self.pool, self.last(c.holder), self.pool.slots.get(c.holder)
        if last.final:  # sent again, or it has left already
            return self.answer("withdrawn", 0, heirs=self.waiting(last.heirs))
        if slot and not slot.request_id:
            del pool.slots[c.holder]
        pool.queue.pop(c.holder, None)
        self.drop_ticket(c.holder)
        heirs = self.settle(c.start_ms, c.can_start_heirs)
        self.bury(c.holder, c.tomb_ms, Last(True, 0, "withdrawn", _names(heirs)))
        return self.end("withdrawn", 0, heirs=heirs)

    def settle(
        self, start_ms: int, can_start_heirs: bool, asker: str | None = None, starter: str = ""
    ) -> tuple[Heir, ...]:
        pool = self.pool
        if self.now > pool.earliest:
            for _, holder in sorted((s.deadline, h) for h, s in pool.slots.items() if s.deadline < self.now):
                slot = pool.slots.pop(holder)
                self.back(holder, slot.place, unused=not slot.request_id)
            pool.earliest = min((s.deadline for s in pool.slots.values()), default=NEVER)
        return self.reserve(start_ms, can_start_heirs, asker, starter) if pool.queue else ()

    def reserve(self, start_ms: int, can_start_heirs: bool, asker: str | None, starter: str) -> tuple[Heir, ...]:
        pool, heirs = self.pool, []
        free = min(pool.limit - len(pool.slots), BATCH)
        if free < 1:
            return ()
        for holder in sorted(pool.queue, key=lambda h: (pool.queue[h], h))[:free]:
            envelope = pool.tickets[holder]
            waits = envelope.startswith(WAITER)
            if not (waits or can_start_heirs):
                break
            token, place = self.draw(), pool.queue.pop(holder)
            patience = min(pool.missed.get(holder, 0), PATIENCE) if place % 1 else 0
            deadline = self.now + start_ms * 1000 * 2**patience
            self.put(holder, Slot(token, place, "", deadline, 0, self.now, "" if waits else starter))
            if holder == asker:
                continue
            if waits:
                self.calls.append((envelope[1:].decode(), holder, token))
            else:
                heirs.append(self.tell(holder))
        return tuple(heirs)

    def tell(self, holder: str) -> Heir:
        slot = self.pool.slots[holder]
        waited = (slot.since - slot.place + AHEAD) % LEVEL - AHEAD
        return Heir(holder, slot.token, self.pool.tickets[holder], max(0, int((waited + 500) // 1000)))

    def put(self, holder: str, slot: Slot) -> None:
        self.pool.slots[holder] = slot
        self.pool.earliest = min(self.pool.earliest, slot.deadline)

    def put_ticket(self, holder: str, envelope: bytes) -> None:
        self.pool.tickets[holder] = envelope
        task, colon, _ = holder.rpartition(":")
        if colon:
            self.pool.found[task] = holder

    def drop_ticket(self, holder: str) -> None:
        self.pool.missed.pop(holder, None)
        if self.pool.tickets.pop(holder, None) is None:
            return
        task = holder.rpartition(":")[0]
        if self.pool.found.get(task) == holder:
            del self.pool.found[task]

    def back(self, holder: str, place: float, *, unused: bool = False) -> None:
        envelope = self.pool.tickets.get(holder)
        if envelope is None:
            return
        if envelope.startswith(WAITER):
            self.drop_ticket(holder)
            return
        if place % 1:
            drawn = self.draw()
            place = drawn - (drawn - place) // LEVEL * LEVEL
        self.pool.queue[holder] = place + 0.5
        if unused:
            self.pool.missed[holder] = self.pool.missed.get(holder, 0) + 1

    def draw(self) -> int:
        self.pool.counter = max(self.pool.counter + 1, self.now)
        return self.pool.counter

    def last(self, holder: str) -> Last:
        last = self.pool.done.get(holder, Last())
        return last if last.until > self.now else Last()

    def bury(self, holder: str, life_ms: int, last: Last) -> None:
        self.pool.done[holder] = last._replace(until=self.now + life_ms * 1000)

    def waiting(self, names: tuple[tuple[str, int], ...]) -> tuple[Heir, ...]:
        slots = self.pool.slots
        return tuple(self.tell(holder) for holder, token in names if holder in slots and _waits(slots[holder], token))

    def end(self, status: Status, token: int, previous_limit: int = 0, heirs: tuple[Heir, ...] = ()) -> Reply:
        pool = self.pool
        if pool.tickets:
            if pool.queue and len(pool.slots) < pool.limit:
                pool.due = self.now
            else:
                pool.due = min((s.deadline for s in pool.slots.values()), default=self.now + MARGIN)
        return self.answer(status, token, previous_limit, heirs)

    def answer(self, status: Status, token: int, previous_limit: int = 0, heirs: tuple[Heir, ...] = ()) -> Reply:
        return Reply(status, token, len(self.pool.slots), self.pool.limit, previous_limit, heirs)


def _names(heirs: tuple[Heir, ...]) -> tuple[tuple[str, int], ...]:
    return tuple([(heir.holder, heir.token) for heir in heirs]) if heirs else ()


def _waits(slot: Slot, token: int) -> bool:
    return not slot.request_id and slot.token == token


def found(pool: Pool, tasks: Iterable[str]) -> list[Found]:
    """What `find.lua` answers."""
    holders = [pool.found[task] for task in tasks if task in pool.found]
    slots = [pool.slots.get(holder) for holder in holders]
    return [
        Found(holder, pool.tickets.get(holder, b""), not (slot and slot.request_id))
        for holder, slot in zip(holders, slots, strict=True)
    ]


def view(name: str, pool: Pool, now: int) -> PoolView:
    live = sorted((s.deadline, h, s) for h, s in pool.slots.items() if s.deadline >= now)
    holders = (
        HolderView(h, s.token, s.label if s.request_id else "", not s.request_id, s.since / 1e6, (deadline - now) / 1e6)
        for deadline, h, s in live
    )
    return PoolView(name, pool.limit, len(pool.queue), tuple(holders))
