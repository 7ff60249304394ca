"""How long a worker leaves a store alone that did not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

FIRST: Final = 0.5  # seconds: the pause after the first failure; each further one doubles it
PROBE: Final = 10.0  # seconds: a request that has no answer by then is not waited for
WHILE_PROBING: Final = 2.0  # seconds until one that may not ask meanwhile is worth another try
LONGEST: Final = 10.0  # seconds


class StoreOutage:
    """Counts failures in a row and says for how long nothing is sent. Any thread may call it.

    After that one request finds out whether the store answers again. The others wait for it: a store that hangs would
    keep a process, or thread, for each.

    Attributes:
        failing: the store has not answered since its last failure.
        probing: one request is under way.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.failing = False
        self.probing = False
        self._pause = 0.0
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        """Is nothing sent for now?"""
        return self.failing and not self.probing and self._clock() < self._until

    def may_ask(self) -> bool:
        """May a delivery ask for its slot now?"""
        if not self.failing:
            return True
        if self._clock() < self._until:
            return False
        self.probing = True  # two threads may both do it, or it gets no answer: one request more
        self._until = self._clock() + PROBE
        return True

    @property
    def left(self) -> float:
        """Seconds until the store is tried again."""
        left = max(0.0, self._until - self._clock())
        return min(left, WHILE_PROBING) if self.probing else left

    def next_pause(self) -> float:
        """The store failed: seconds until it is worth another try."""
        self.failing = True
        self._pause = min(self._pause * 2 or FIRST, LONGEST)
        return self._pause

    def begin(self) -> None:
        """The store failed: send nothing for the next pause.

        Requests that were sent together fail together. They count as one failure: those after the first change nothing.
        """
        if self.is_on:
            return
        self.probing = False
        self._until = self._clock() + self.next_pause()

    def end_pause(self) -> None:
        """Somebody else has seen the store answer: try again now."""
        self.failing = self.probing = False
        self._until = 0.0

    def on_answer(self) -> None:
        """The store answered: the next failure counts as the first."""
        self.failing = self.probing = False
        self._pause = 0.0
