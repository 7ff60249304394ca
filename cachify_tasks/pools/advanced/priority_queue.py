"""The queue: the smallest priority number first, equal ones in the order of arrival."""

from __future__ import annotations

import math
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .jobs import Entry

COMPACT_AT = 64  # withdrawn entries that may stay where they are


class PriorityQueue:
    """The scheduler's lock guards it, except for reading `best`, which a worker does after each item of a map.

    Attributes:
        live: how many entries wait. A withdrawn entry, whose `scheduler` is None, is skipped later.
        best: the smallest priority number that waits, or has waited until now.
    """

    def __init__(self) -> None:
        self._lanes: dict[int, deque[Entry]] = {}  # by priority
        self._priorities: list[int] = []  # a heap
        self._withdrawn = 0
        self.live = 0
        self.best: float = math.inf

    def push(self, entry: Entry, priority: int) -> None:
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
            heappush(self._priorities, priority)
            self.best = self._priorities[0]
        lane.append(entry)
        self.live += 1

    def pop(self) -> Entry | None:
        """The next entry. A shared one stays in the queue, so that other workers join it, until it is withdrawn."""
        while self._priorities:
            self.best = self._priorities[0]
            lane = self._lanes[self._priorities[0]]
            while lane:
                entry = lane[0]
                if entry.scheduler is not None and entry.shared:
                    return entry
                lane.popleft()
                if entry.scheduler is not None:
                    self.live -= 1
                    entry.scheduler = None
                    return entry
                self._withdrawn -= 1
            del self._lanes[heappop(self._priorities)]
        self.best = math.inf
        return None

    def withdraw(self, entry: Entry) -> None:
        entry.scheduler = None
        self.live -= 1
        self._withdrawn += 1
        if self._withdrawn > COMPACT_AT and self._withdrawn > self.live:
            for lane in self._lanes.values():
                waiting = [other for other in lane if other.scheduler is not None]
                lane.clear()
                lane.extend(waiting)
            self._withdrawn = 0

    def clear(self) -> list[Entry]:
        """Take out all entries."""
        entries = [entry for priority in sorted(self._lanes) for entry in self._lanes[priority] if entry.scheduler]
        for entry in entries:
            entry.scheduler = None
        self._lanes.clear()
        self._priorities.clear()
        self._withdrawn = 0
        self.live = 0
        self.best = math.inf
        return entries

    def interrupt_maps(self) -> None:
        """Make every worker that runs a map leave it and look, at the next `pop`, for what it should do."""
        self.best = -math.inf
