"""The invariants of one pool. Scripts are atomic, so each of them holds between any two."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from .._core.commands import WAITER
from .._store.records import (
    ASIDE,
    CHANNEL,
    ENVELOPE,
    LEVEL,
    LIMIT_FROM,
    NUMBERS,
    SLOT,
    TASK,
    TICKET,
    SlotRecord,
    TicketRecord,
)
from .problems import Kind, Problem
from .snapshot import TYPES, Keys, Snapshot

LEFTOVER: Final = 43_200_000_000  # µs after the last deadline, at least, until the keys of a pool may be gone
NAMED: Final = 3  # holders in one line
MISSED: Final = 10  # reservations of one ticket; a worker that knows the task would have used one of them


class Facts:
    """A snapshot, with its state and its tickets taken apart.

    Attributes:
        recorded, ticketed: the holders with a record of a slot, of a ticket, also one that cannot be read.
        tickets: the holders of which the store keeps an envelope or a channel.
        tasks: task id -> holder.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.numbers: dict[str, int] = {}
        self.records: dict[str, SlotRecord] = {}
        self.recorded: set[str] = set()
        self.ticket_records: dict[str, TicketRecord] = {}
        self.ticketed: set[str] = set()
        self.envelopes: set[str] = set()
        self.channels: set[str] = set()
        self.tasks: dict[str, str] = {}
        self.bad: list[str] = []
        for field, value in snapshot.state.items():
            self._state(field, value)
        for field, value in snapshot.tickets.items():
            self._ticket(field, value)
        self.tickets = self.envelopes | self.channels
        self.limit = self.numbers.get("override", self.numbers.get("limit", 0))
        self.live = [h for h, deadline in snapshot.slots.items() if deadline >= snapshot.now]

    def _state(self, field: str, value: str) -> None:
        if field in NUMBERS and re.fullmatch(r"-?\d+(\.\d+)?(e\+\d+)?", value):
            self.numbers[field] = int(float(value))
        elif (field, value) == (LIMIT_FROM, "worker"):
            pass
        elif field.startswith(SLOT):
            holder = field.removeprefix(SLOT)
            self.recorded.add(holder)
            try:
                self.records[holder] = SlotRecord.decoded(value)
            except ValueError:
                self.bad.append(f"{field}: {value!r}")
        else:
            self.bad.append(f"{field}: {value!r}")

    def _ticket(self, field: str, value: str) -> None:
        if field.startswith(TICKET):
            holder = field.removeprefix(TICKET)
            self.ticketed.add(holder)
            try:
                self.ticket_records[holder] = TicketRecord.decoded(value)
            except ValueError:
                self.bad.append(f"{field}: {value!r}")
        elif field.startswith(ENVELOPE):
            self.envelopes.add(field.removeprefix(ENVELOPE))
        elif field.startswith(CHANNEL):
            self.channels.add(field.removeprefix(CHANNEL))
        elif field.startswith(TASK):
            self.tasks[field.removeprefix(TASK)] = value
        else:
            self.bad.append(f"{field}: {value!r}")


Found = Iterator[tuple[Kind, str]]


def problems(snapshot: Snapshot, *, settled: bool = False) -> list[Problem]:
    """What is wrong with a pool; settled: no reaper will come and give its free slots to the tickets."""
    keys, pool = snapshot.keys, snapshot.pool
    if keys is not None:
        wrong = [f"its {key} are a {found}" for key, found in keys.types.items() if found not in ("none", TYPES[key])]
        if wrong:
            return [Problem("wrong-type", pool, detail) for detail in wrong]
    facts = Facts(snapshot)
    rules: list[Callable[[Facts], Found]] = [_limits, _tickets, _tasks, _records, _numbers]
    found = [Problem(kind, pool, detail) for rule in rules for kind, detail in rule(facts)]
    found += [Problem(kind, pool, detail) for kind, detail in _waiting(facts, settled)]
    if keys is not None:
        found += [Problem(kind, pool, detail) for kind, detail in (*_ttls(facts, keys), *_indexes(facts, keys))]
    return found


def _limits(facts: Facts) -> Found:
    live, limit = facts.live, facts.limit
    if len(live) > limit:
        reserved = sum(facts.records[h].reserved for h in live if h in facts.records)
        detail = f"valid leases: {len(live)}, {reserved} of them reserved; limit: {limit}; {_some(live)}"
        if "override" in facts.numbers:
            yield "draining", f"{detail}; it was set at run time, and may have been lowered"
        else:
            yield "over-limit", detail
    for holder, record in facts.records.items():
        deadline = facts.snapshot.slots.get(holder, 0)
        if record.hard_limit and deadline > record.hard_limit:
            late = (deadline - record.hard_limit) / 1e6
            yield "over-hard-limit", f"the lease of {holder!r} ends {late:g} s after its hard limit"


def _waiting(facts: Facts, settled: bool) -> Found:
    s = facts.snapshot
    expired = [h for h, deadline in s.slots.items() if deadline < s.now and h in facts.tickets]
    waiting = [holder for holder, rank in s.queue.items() if rank <= ASIDE + s.now]
    runnable, free = [*waiting, *expired], facts.limit - len(facts.live)
    if not runnable or free < 1:
        return
    detail = f"{_some(runnable)} could run: {len(facts.live)} of {facts.limit} slots are taken"
    due = None if s.keys is None else s.keys.waiting
    if s.keys is not None and (due is None or due > s.now):
        when = "" if due is None else f" for {(due - s.now) / 1e6:.1f} s"
        yield "free-beside-waiting", f"{detail}, and no reaper is called{when}"
    elif settled:
        yield "reaper-due", f"{detail}, and no reaper has come"


def _tickets(facts: Facts) -> Found:
    s = facts.snapshot
    for holder in s.queue.keys() - facts.tickets:
        yield "queued-without-envelope", f"{holder!r} waits, and its message is gone"
    for holder in s.queue.keys() & s.slots.keys():
        yield "queued-and-held", f"{holder!r} waits and has a slot"
    for holder in facts.tickets - s.queue.keys() - s.slots.keys():
        yield "stranded-envelope", f"the message of {holder!r} neither waits nor has a slot: it will never run"
    for holder, record in facts.records.items():
        if record.reserved and holder in s.slots and holder not in facts.tickets:
            yield "reserved-without-envelope", f"a slot is reserved for {holder!r}, and its message is gone"
    for holder in facts.tickets - facts.ticketed:
        yield "ticket-without-record", f"the store keeps a message of {holder!r}, and nothing is known of its ticket"
    for holder in facts.ticketed - facts.tickets:
        yield "ticket-without-envelope", f"{holder!r} has a ticket, and its message is gone"
    for holder, ticket in facts.ticket_records.items():
        if holder in facts.tickets and (ticket.kind == WAITER) != (holder in facts.channels):
            yield "ticket-of-wrong-kind", f"the ticket of {holder!r} says {ticket.kind!r}"
        if ticket.unused > MISSED:
            missed = f"{ticket.unused} slots were reserved for {holder!r}, and no worker started it"
            yield "nobody-starts-it", missed
        if s.queue.get(holder, ticket.rank) != ticket.rank and s.queue[holder] < ASIDE:
            yield "rank-differs", f"{holder!r} waits at {s.queue[holder]:.0f}, and its ticket says {ticket.rank}"


def _tasks(facts: Facts) -> Found:
    """A task's ticket can be found by the task's id. One holder is kept for all attempts of a task."""
    for task, holder in facts.tasks.items():
        ticket = facts.ticket_records.get(holder)
        if ticket is None or ticket.task_id != task:
            yield "misnamed-ticket", f"task {task!r} is said to have the ticket {holder!r}"
    for holder, ticket in facts.ticket_records.items():
        if ticket.task_id and ticket.task_id not in facts.tasks:
            yield "misnamed-ticket", f"the ticket {holder!r} cannot be found by its task"


def _records(facts: Facts) -> Found:
    s = facts.snapshot
    for holder in s.slots.keys() - facts.recorded:
        yield "slot-without-record", f"{holder!r} has a slot, and nothing is known of it"
    for holder in facts.recorded - s.slots.keys():
        yield "record-without-slot", f"{holder!r} is recorded, and has no slot"
    for field in facts.bad:
        yield "bad-field", f"its state has {field}"


def _numbers(facts: Facts) -> Found:
    s, counter = facts.snapshot, facts.numbers.get("counter", 0)
    ranks = {holder: ticket.rank for holder, ticket in facts.ticket_records.items()}
    # A ticket's rank is lowered by its priority; what is left of it is below the counter all the more.
    tokens = [record.token for record in facts.records.values()]
    queued = [int(rank) for rank in s.queue.values() if rank < ASIDE]
    highest = max([*tokens, *ranks.values(), *queued], default=0)
    if highest > counter:
        yield "counter-behind", f"the counter is at {counter}, and {highest} has been given"
    for token, holders in _shared((record.token, h) for h, record in facts.records.items()):
        yield "token-twice", f"{_some(holders)} have the token {token}"
    for rank, holders in _shared((rank % LEVEL, h) for h, rank in ranks.items()):
        yield "rank-twice", f"{_some(holders)} have one rank ({rank} modulo 2^40)"


def _ttls(facts: Facts, keys: Keys) -> Found:
    """With tickets the keys have no TTL; without, they live until after the last lease."""
    s, keep_until, tickets = facts.snapshot, facts.numbers.get("keep_until", 0), bool(facts.snapshot.tickets)
    if (keep_until == -1) != tickets:
        held = f"{len(facts.tickets)} tickets" if tickets else "no tickets"
        yield "keep-until-wrong", f"its state says keep_until {keep_until}, and there are {held}"
    if keys.ttls["leased"] == -1:
        yield "immortal-key", "its index of leases has no TTL"
    left = (max(s.slots.values(), default=s.now) - s.now) / 1000
    for key in KEPT:
        ttl = keys.ttls[key]
        if tickets and ttl >= 0:
            yield "mortal-key", f"its {key} will be gone in {ttl / 1000:g} s, and there are tickets"
        elif 0 <= ttl < left:
            yield "mortal-key", f"its {key} will be gone in {ttl / 1000:g} s, before its leases"
        elif ttl == -1 and not tickets and not (key == "state" and "override" in facts.numbers):
            yield "immortal-key", f"its {key} have no TTL, and there are no tickets"


KEPT: Final = ("slots", "state", "queue", "tickets")


def _indexes(facts: Facts, keys: Keys) -> Found:
    s = facts.snapshot
    if s.tickets and keys.waiting is None:
        yield "not-indexed", "it has tickets, and is not in the index of pools with tickets"
    if s.slots and not s.tickets and keys.leased is None:
        yield "not-indexed", "it has leases, and is not in the index of pools with leases"
    if not s.tickets and keys.waiting is not None:
        yield "index-without-pool", "it is in the index of pools with tickets, and has none"
    if not s.slots and keys.leased is not None and keys.leased >= s.now - LEFTOVER:
        yield "index-without-pool", "it is in the index of pools with leases, and has none"


def _shared(given: Iterable[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """The numbers that more than one has."""
    by_number: dict[int, list[str]] = {}
    for number, holder in given:
        by_number.setdefault(number, []).append(holder)
    yield from ((number, holders) for number, holders in by_number.items() if len(holders) > 1)


def _some(holders: Iterable[str]) -> str:
    names = sorted(holders)
    more = len(names) - NAMED
    return ", ".join(map(repr, names[:NAMED])) + (f" and {more} more" if more > 0 else "")
