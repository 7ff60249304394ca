"""Commands that the store has not confirmed yet: ends and beginnings of runs, which nobody waits for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from .._core.commands import PutBack, Release, Renew, SlotRequest, Withdraw

Report: TypeAlias = (
    SlotRequest | Release | Withdraw | PutBack | Renew
)  # a SlotRequest: of an heir that has started already


class Entry(NamedTuple):
    """A command, and when it was added, by the worker's clock."""

    command: Report
    since: float


class Outbox:
    """One ordered list of unconfirmed commands. Each is idempotent, so it may be sent as often as it takes.

    Order matters: that an heir has started must not reach the store after its end. So a sender takes all entries from
    the front, and puts those that failed back to the front. An entry is forgotten after one lease: then the slot has
    expired, and there is nothing left to free.

    Any thread may call any method; a deque's `append` and `popleft` are atomic. Two senders at the same time may
    exchange the order of commands, so an adapter has one sender at a time.

    Args:
        lease_s: seconds after which an entry is forgotten.

    Attributes:
        entries: the commands, oldest first. Only for a look whether there are any.
    """

    def __init__(self, lease_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self.entries: deque[Entry] = deque()

    def add(self, command: Report) -> None:
        self.entries.append(Entry(command, self._clock()))

    def take(self) -> list[Entry]:
        """All entries that still matter, in order. They are out of the box until `put_back`."""
        return list(iter(self.take_one, None))

    def take_one(self) -> Entry | None:
        """The oldest entry that still matters; None: there is none."""
        oldest_useful = self._clock() - self._lease_s
        while self.entries:
            try:
                entry = self.entries.popleft()
            except IndexError:  # another thread took the last one
                return None
            if entry.since >= oldest_useful:
                return entry
        return None

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Their sending failed: they are sent again before everything else, in the same order."""
        self.entries.extendleft(reversed(list(entries)))
