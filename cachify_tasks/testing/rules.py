"""The invariants of one pool. Scripts are atomic, so each of them holds between any two."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from .problems import Kind, Problem
from .snapshot import TYPES, Keys, Snapshot

PRIORITY: Final = 2**40  # what one step of priority takes off a ticket's place
LEFTOVER: Final = 43_200_000_000  # µs after the last deadline, at least, until the keys of a pool may be gone
NAMED: Final = 3  # holders in one line
_RECORD: Final = re.compile(r"(\d+)\|(\d+(?:\.\d+)?)\|([^|]*)\|(\d+)\|(\d+)\|(.*)", re.DOTALL)
_NUMBERS: Final = frozenset({"counter", "limit", "override", "lives"})


class Record(NamedTuple):
    token: int
    place: float
    request_id: str  # empty: reserved
    hard: int


class Facts:
    """A snapshot, with its state taken apart."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.numbers: dict[str, int] = {}
        self.records: dict[str, Record] = {}
        self.recorded: set[str] = set()  # also those whose record is no record
        self.names: dict[str, str] = {}
        self.bad: list[str] = []
        for field, value in snapshot.fields.items():
            if field in _NUMBERS and re.fullmatch(r"-?\d+(\.\d+)?(e\+\d+)?", value):
                self.numbers[field] = int(float(value))
            elif field.startswith("@"):
                self.names[field[1:]] = value
            elif field.startswith("%") and value.isdigit() and field[1:] in snapshot.tickets:
                pass  # how often a reservation of this ticket ended unused
            elif field.startswith("="):
                self._record(field[1:], value)
            else:
                self.bad.append(f"{field}: {value!r}")
        self.limit = self.numbers.get("override", self.numbers.get("limit", 0))
        self.live = [h for h, deadline in snapshot.slots.items() if deadline >= snapshot.now]

    def _record(self, holder: str, value: str) -> None:
        self.recorded.add(holder)
        found = _RECORD.fullmatch(value)
        if found is None:
            self.bad.append(f"={holder}: {value!r}")
        else:
            token, place, request_id, hard, *_ = found.groups()
            self.records[holder] = Record(int(token), float(place), request_id, int(hard))


Found = Iterator[tuple[Kind, str]]


def problems(snapshot: Snapshot, *, settled: bool = False) -> list[Problem]:
    """What is wrong with a pool; settled: nobody will come and give its free slots to who waits."""
    keys, pool = snapshot.keys, snapshot.pool
    if keys is not None:
        wrong = [f"its {key} are a {found}" for key, found in keys.types.items() if found not in ("none", TYPES[key])]
        if wrong:
            return [Problem("wrong-type", pool, detail) for detail in wrong]
    facts = Facts(snapshot)
    rules: list[Callable[[Facts], Found]] = [_limits, _tickets, _records, _numbers]
    found = [Problem(kind, pool, detail) for rule in rules for kind, detail in rule(facts)]
    found += [Problem(kind, pool, detail) for kind, detail in _waiting(facts, settled)]
    if keys is not None:
        found += [Problem(kind, pool, detail) for kind, detail in (*_lives(facts, keys), *_indexes(snapshot, keys))]
        found += [Problem(kind, pool, detail) for kind, detail in _named(facts)]
    return found


def _limits(facts: Facts) -> Found:
    live, limit = facts.live, facts.limit
    if len(live) > limit:
        reserved = sum(not facts.records[h].request_id for h in live if h in facts.records)
        detail = f"valid leases: {len(live)}, {reserved} of them reserved; limit: {limit}; {_some(live)}"
        if "override" in facts.numbers:
            yield "draining", f"{detail}; it was set at run time, and may have been lowered"
        else:
            yield "over-limit", detail
    for holder, record in facts.records.items():
        deadline = facts.snapshot.slots.get(holder, 0)
        if record.hard and deadline > record.hard:
            late = (deadline - record.hard) / 1e6
            yield "over-hard-limit", f"the lease of {holder!r} ends {late:g} s after its hard limit"


def _waiting(facts: Facts, settled: bool) -> Found:
    s = facts.snapshot
    expired = [h for h, deadline in s.slots.items() if deadline < s.now and h in s.tickets]
    runnable, free = [*s.queue, *expired], facts.limit - len(facts.live)
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
    for holder in s.queue.keys() - s.tickets:
        yield "queued-without-envelope", f"{holder!r} waits, and its message is gone"
    for holder in s.queue.keys() & s.slots.keys():
        yield "queued-and-held", f"{holder!r} waits and has a slot"
    for holder in s.tickets - s.queue.keys() - s.slots.keys():
        yield "stranded-envelope", f"the message of {holder!r} neither waits nor has a slot: it will never run"
    for holder, record in facts.records.items():
        if not record.request_id and holder in s.slots and holder not in s.tickets:
            yield "reserved-without-envelope", f"a slot is reserved for {holder!r}, and its message is gone"


def _named(facts: Facts) -> Found:
    """A task's ticket can be found by the task's id. One name is kept for all attempts of a task."""
    s = facts.snapshot
    for task, holder in facts.names.items():
        if holder not in s.tickets or holder.rpartition(":")[0] != task:
            yield "misnamed-ticket", f"task {task!r} is said to have the ticket {holder!r}"
    for holder in s.tickets:
        task, colon, _ = holder.rpartition(":")
        if colon and task not in facts.names:
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
    places = {**s.queue, **{h: record.place for h, record in facts.records.items()}}
    # A ticket's place is lowered by its priority; what is left of it is below the counter all the more.
    highest = max([*(r.token for r in facts.records.values()), *(int(place) for place in places.values())], default=0)
    if highest > counter:
        yield "counter-behind", f"the counter is at {counter}, and {highest} has been given"
    for token, holders in _shared((record.token, h) for h, record in facts.records.items()):
        yield "token-twice", f"{_some(holders)} have the token {token}"
    for place, holders in _shared((int(place) % PRIORITY, h) for h, place in places.items()):
        yield "place-twice", f"{_some(holders)} have one place ({place} modulo 2^40)"


def _lives(facts: Facts, keys: Keys) -> Found:
    """With tickets the keys live for ever; without, until after the last lease."""
    s, lives = facts.snapshot, facts.numbers.get("lives", 0)
    if (lives == -1) != bool(s.tickets):
        held = f"{len(s.tickets)} tickets" if s.tickets else "no tickets"
        yield "lives-wrong", f"its state says lives {lives}, and there are {held}"
    if keys.lives["leased"] == -1:
        yield "immortal-key", "the index of leases of its bucket has no TTL"
    left = (max(s.slots.values(), default=s.now) - s.now) / 1000
    for key in KEPT:
        life = keys.lives[key]
        if s.tickets and life >= 0:
            yield "mortal-key", f"its {key} will be gone in {life / 1000:g} s, and there are tickets"
        elif 0 <= life < left:
            yield "mortal-key", f"its {key} will be gone in {life / 1000:g} s, before its leases"
        elif life == -1 and not s.tickets and not (key == "state" and "override" in facts.numbers):
            yield "immortal-key", f"its {key} have no TTL, and there are no tickets"


KEPT: Final = ("slots", "state", "queue", "tickets")


def _indexes(s: Snapshot, keys: Keys) -> Found:
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
