"""The queue: a lane for each priority, in each the order of arrival."""

from __future__ import annotations

import math
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .jobs import Entry

FEW = 64  # withdrawn entries that are left where they are


class Lanes:
    """The crew's lock guards it, but for reading `best`, which whoever runs a map does after each item.

    Attributes:
        live: entries that wait. One whose `crew` is None was withdrawn and is skipped.
        best: the smallest priority number that waits, or has waited until now.
    """

    __slots__ = ("_dead", "_lanes", "_order", "best", "live")

    def __init__(self) -> None:
        self._lanes: dict[int, deque[Entry]] = {}
        self._order: list[int] = []  # a heap
        self._dead = 0
        self.live = 0
        self.best: float = math.inf

    def push(self, entry: Entry, priority: int) -> None:
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
            heappush(self._order, priority)
            self.best = self._order[0]
        lane.append(entry)
        self.live += 1

    def pop(self) -> Entry | None:
        """The next one. A shared one stays, for others to join in, until it is withdrawn."""
        while self._order:
            self.best = self._order[0]
            lane = self._lanes[self._order[0]]
            while lane:
                entry = lane[0]
                if entry.crew is not None and entry.shared:
                    return entry
                lane.popleft()
                if entry.crew is not None:
                    self.live -= 1
                    entry.crew = None
                    return entry
                self._dead -= 1
            del self._lanes[heappop(self._order)]
        self.best = math.inf
        return None

    def withdraw(self, entry: Entry) -> None:
        entry.crew = None
        self.live -= 1
        self._dead += 1
        if self._dead > FEW and self._dead > self.live:
            for lane in self._lanes.values():
                alive = [other for other in lane if other.crew is not None]
                lane.clear()
                lane.extend(alive)
            self._dead = 0

    def clear(self) -> list[Entry]:
        """Take all out."""
        entries = [entry for priority in sorted(self._order) for entry in self._lanes[priority] if entry.crew]
        for entry in entries:
            entry.crew = None
        self._lanes.clear()
        self._order.clear()
        self._dead = self.live = 0
        self.best = math.inf
        return entries

    def call_back(self) -> None:
        """Whoever runs a map leaves it and looks again, at the next `pop`, for what there is to do."""
        self.best = -math.inf
