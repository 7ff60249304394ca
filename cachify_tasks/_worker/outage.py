"""How long a worker leaves a store alone that did not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

FIRST: Final = 0.5  # seconds: the pause after the first failure; each further one doubles it
LONGEST: Final = 10.0  # seconds


class StoreOutage:
    """Counts failures in a row and says for how long nothing is sent. Any thread may call it.

    Attributes:
        failing: the store has not answered since its last failure.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.failing = False
        self._pause = 0.0
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        """Is nothing sent for now?"""
        return self.failing and self._clock() < self._until

    @property
    def left(self) -> float:
        """Seconds until the store is tried again."""
        return max(0.0, self._until - self._clock())

    def next_pause(self) -> float:
        """The store failed: seconds until it is worth another try."""
        self.failing = True
        self._pause = min(self._pause * 2 or FIRST, LONGEST)
        return self._pause

    def begin(self) -> None:
        """The store failed: send nothing for the next pause."""
        self._until = self._clock() + self.next_pause()

    def end_pause(self) -> None:
        """Somebody else has seen the store answer: try again now."""
        self._until = 0.0

    def on_answer(self) -> None:
        """The store answered: the next failure counts as the first."""
        self.failing = False
        self._pause = 0.0
