"""What a pool knows about its elements: which are idle, which are lent, and how often each was lent.

A record has one owner at a time: the caller that has popped it from the idle records, or the caller that has deleted
its `lent`. Each of these is one step of the interpreter. So `get` and `put` take no lock, and neither does the record's
counter.
"""

from __future__ import annotations

import os
from collections import deque
from threading import RLock
from typing import TYPE_CHECKING, Any, Final
from weakref import KeyedRef, WeakSet, ref

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

LAST: Final = 1 << 62  # an index behind any other


class Record:
    """One element.

    Attributes:
        element: set while it is idle. A lent element that its user forgets is collected like any other object.
        lent: exists while the element is lent; the caller that returns the element deletes it.
        since: when it became idle, on the monotonic clock; kept where `max_idle` is given.
        gets: how often it was lent.
        key: the id of the element.
        hold: a weak reference to the element, or the element itself where that is impossible.
    """

    __slots__ = ("element", "gets", "hold", "key", "lent", "since")

    element: Any
    lent: bool

    def __init__(self, key: int, hold: object) -> None:
        self.key = key
        self.hold = hold
        self.element = None
        self.gets = 1
        self.since = 0.0
        self.lent = True

    @property
    def puts(self) -> int:
        return self.gets - hasattr(self, "lent")  # each loan but the present one has ended in a `put`


class Records:
    """The records of one pool.

    Attributes:
        idle: idle records in order: `get` pops the last one, `put` inserts at the index `end`.
        known: the record of each element, by the element's id.
        duplicates: further records of an object that the generator has returned more than once.
        inherited: ids of elements that were lent when the process forked. They are not this process's to close.
        loop: the event loop in which an `AsyncCachePool` has made its elements.
        lock: guards `known`, `duplicates`, `inherited` and the totals. It is re-entrant: garbage collection in a thread
            that holds it may run a finalizer that calls the pool.
    """

    def __init__(self, size: int, lifo: bool) -> None:
        # A full deque refuses `insert` and stays as it is: the pool is never too full, and nothing is pushed out.
        self.idle: deque[Record] = deque(maxlen=size if 0 < size <= LAST else None)
        self.end = LAST if lifo else 0
        self.known: dict[int, Record] = {}
        self.duplicates: dict[int, list[Record]] = {}
        this = ref(self)

        def on_collected(hold: KeyedRef[int, object]) -> None:
            # The garbage collector calls this at any moment in any thread: it must not wait for a lock.
            records = this()
            if records is not None and hold.key in records.known:
                records._collected.append(records.known.pop(hold.key))
                records._collected.extend(records.duplicates.pop(hold.key, ()))

        self._on_collected = on_collected
        self.reset()
        _all.add(self)

    def reset(self) -> None:
        """Drop all elements without closing them: they belong to the parent process or to a closed event loop."""
        self.loop: AbstractEventLoop | None = None
        self.lock = RLock()
        self.inherited = {key for key, record in self.known.items() if hasattr(record, "lent")}
        self.known.clear()
        self.duplicates.clear()
        self._collected: deque[Record] = deque()  # of elements that their users forgot, not yet in the totals
        self._totals = [0, 0, 0]  # elements, gets and puts of records that are gone
        self.idle.clear()

    def add(self, element: object) -> None:
        """Make a record of a new element, which is lent at once."""
        key = id(element)
        hold: object
        try:
            hold = KeyedRef(element, self._on_collected, key)
        except TypeError:  # an int, a list: keep it, or another object could get its id
            hold = element
        record = Record(key, hold)
        with self.lock:
            self._count_collected()
            self.inherited.discard(key)
            if self.known.setdefault(key, record) is not record:
                self.duplicates.setdefault(key, []).append(record)

    def remove(self, record: Record, puts: int) -> None:
        """Forget an element that is about to be closed and was put back `puts` times."""
        key = record.key
        with self.lock:
            duplicates = self.duplicates.get(key, [])
            if record in duplicates:
                duplicates.remove(record)
            elif self.known.get(key) is not record:  # a fork has dropped it in the meantime
                return
            elif duplicates:
                self.known[key] = duplicates.pop()
            else:
                del self.known[key]
                self.duplicates.pop(key, None)
            self._add_to_totals(record.gets, puts)

    def claim_duplicate(self, element: object) -> Record | None:
        """Claim any lent record of this object; None: it is not lent."""
        with self.lock:
            head = self.known.get(id(element))
            for record in [*([head] if head else []), *self.duplicates.get(id(element), [])]:
                try:
                    del record.lent
                except AttributeError:
                    continue
                return record
        return None

    def is_idle(self, element: object) -> bool:
        return any(record.element is element for record in self.idle.copy())

    def pop_older(self, limit: float) -> Record | None:
        """Take out the element that has been idle longest, if it has been idle since before `limit`."""
        lifo = self.end == LAST
        try:
            if self.idle[0 if lifo else -1].since >= limit:
                return None
            record = self.idle.popleft() if lifo else self.idle.pop()
        except IndexError:
            return None
        if record.since >= limit:  # another thread has taken the one that we looked at: put this one back
            try:
                self.idle.insert(0 if lifo else LAST, record)
                return None
            except IndexError:  # the pool is full again
                pass
        return record

    def counts(self) -> tuple[int, int, int]:
        """How many elements were made, lent and put back."""
        with self.lock:
            self._count_collected()
            records = list(self.known.values())
            for duplicates in list(self.duplicates.values()):
                records += duplicates
            new, gets, puts = self._totals
            return (
                new + len(records),
                gets + sum(record.gets for record in records),
                puts + sum(record.puts for record in records),
            )

    def _count_collected(self) -> None:
        while self._collected:
            record = self._collected.popleft()
            self._add_to_totals(record.gets, record.puts)

    def _add_to_totals(self, gets: int, puts: int) -> None:
        self._totals[0] += 1
        self._totals[1] += gets
        self._totals[2] += puts


_all: Final[WeakSet[Records]] = WeakSet()


def _after_fork_in_child() -> None:
    for records in list(_all):
        records.reset()


os.register_at_fork(after_in_child=_after_fork_in_child)
