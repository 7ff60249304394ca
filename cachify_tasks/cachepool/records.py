"""What a pool knows about its elements: which are idle, which are lent, and how often they were.

A record belongs to one party at a time: to who has popped it from the idle ones, or to who has deleted its `lent`.
Both are one step of the interpreter, so nothing else needs a lock; and a record's own counter needs none either.
"""

from __future__ import annotations

import os
from collections import deque
from threading import RLock
from typing import Any, Final
from weakref import KeyedRef, WeakSet, ref

LAST: Final = 1 << 62  # an index behind any other


class Record:
    """One element. It is held while it is idle; one that is lent and forgotten is collected like any other object.

    `lent` is there while the element is lent out, and deleted by who returns it.
    """

    __slots__ = ("element", "gets", "hold", "key", "lent", "since", "twins")

    element: Any
    lent: bool

    def __init__(self, key: int, hold: object) -> None:
        self.key, self.hold = key, hold
        self.element = None
        self.gets = 1
        self.since = 0.0  # when it became idle, on the monotonic clock; kept where `max_idle` is given
        self.twins: list[Record] | None = None  # the others of an object that the generator has given more than once
        self.lent = True

    @property
    def puts(self) -> int:
        return self.gets - hasattr(self, "lent")  # each time that it was lent, but for this one


class Records:
    """The idle records in their order, and all of them by their element's id."""

    __slots__ = (
        "__weakref__", "_end", "_forgotten", "_gone", "_idle", "_inherited", "_known", "_lifo", "_lock", "_past",
    )  # fmt: skip

    def __init__(self, size: int, lifo: bool) -> None:
        # Where it is full, `insert` refuses and changes nothing: never one too many, never one pushed out.
        self._idle: deque[Record] = deque(maxlen=size if 0 < size <= LAST else None)
        self._lifo = lifo
        self._end = LAST if lifo else 0  # where `put` inserts; `get` pops the last
        me = ref(self)

        def forgotten(hold: KeyedRef[int, object]) -> None:
            # Called by the collector, wherever a thread happens to be: it must not wait for a lock.
            pool = me()
            if pool is not None:
                record = pool._known.pop(hold.key, None)
                if record is not None:
                    pool._gone.append(record)

        self._forgotten = forgotten
        self._known: dict[int, Record] = {}
        self._abandon()
        POOLS.add(self)

    def _abandon(self) -> None:
        """Begin anew, in a forked child or another event loop: what there was is dropped, not closed."""
        self._lock = RLock()
        self._inherited = {key for key, record in self._known.items() if hasattr(record, "lent")}
        self._known.clear()
        self._gone: deque[Record] = deque()  # of forgotten elements, to be counted
        self._past = [0, 0, 0]  # elements, gets and puts of records that are gone
        self._idle.clear()

    def _enrol(self, element: object) -> None:
        """A record of an element that the generator has made and that is lent at once."""
        key = id(element)
        hold: object
        try:
            hold = KeyedRef(element, self._forgotten, key)
        except TypeError:  # an int, a list: held, lest another object gets its id
            hold = element
        record = Record(key, hold)
        with self._lock:
            self._bury_forgotten()
            self._inherited.discard(key)
            head = self._known.setdefault(key, record)
            if head is not record:
                head.twins = [*(head.twins or ()), record]

    def _retire(self, record: Record, puts: int) -> None:
        """Forget an element that was returned so often: it is closed, or nobody has it any more."""
        with self._lock:
            head = self._known.get(record.key)
            twins = (head and head.twins) or []
            if head is None or not (record is head or record in twins):  # a fork came between
                return
            if record is not head:
                twins.remove(record)
            elif twins:
                self._known[record.key] = twins[0]
                twins[0].twins = twins[1:]
            else:
                del self._known[record.key]
            self._bury(record.gets, puts)

    def _bury(self, gets: int, puts: int) -> None:
        self._past[0] += 1
        self._past[1] += gets
        self._past[2] += puts

    def _bury_forgotten(self) -> None:
        while self._gone:
            record = self._gone.popleft()
            for one in (record, *(record.twins or ())):
                self._bury(one.gets, one.puts)

    def _counts(self) -> tuple[int, int, int]:
        """How many elements were made, lent, and returned."""
        with self._lock:
            self._bury_forgotten()
            records = list(self._known.values())
            records += [twin for record in records for twin in record.twins or ()]
            new, gets, puts = self._past
            return (
                new + len(records),
                gets + sum(record.gets for record in records),
                puts + sum(record.puts for record in records),
            )

    def _twin(self, element: object) -> Record | None:
        """Claim a lent twin of an object whose first record is not lent."""
        with self._lock:
            head = self._known.get(id(element))
            records: list[Record] = [] if head is None else [head, *(head.twins or ())]
            for record in records:
                try:
                    del record.lent
                except AttributeError:
                    continue
                return record
        return None

    def _is_idle(self, element: object) -> bool:
        return any(record.element is element for record in self._idle.copy())

    def _oldest(self, before: float) -> Record | None:
        """Take out the element that has been idle longest, if it has been since before that time."""
        idle = self._idle
        record: Record
        try:
            if idle[0 if self._lifo else -1].since >= before:
                return None
            record = idle.popleft() if self._lifo else idle.pop()
        except IndexError:
            return None
        if record.since >= before:  # another one than was looked at: back to its place
            try:
                idle.insert(0 if self._lifo else LAST, record)
                return None
            except IndexError:  # its place is taken
                pass
        return record


POOLS: Final[WeakSet[Records]] = WeakSet()


def _begin_anew() -> None:
    for pool in list(POOLS):
        pool._abandon()


os.register_at_fork(after_in_child=_begin_anew)
