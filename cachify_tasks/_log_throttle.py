"""Keeps log lines from coming too often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

logger = logging.getLogger("cachify_tasks")

EVERY: Final = 10.0  # seconds between two lines about one subject
SUBJECTS: Final = 10_000  # remembered at most; then all are forgotten


class LogThrottle:
    """Writes a line once, or at most once in ten seconds with a count of what was left out. Any thread may use it.

    Args:
        clock: in seconds; tests pass one that they move.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Re-entrant: the garbage collector may finalise a generator here, which logs that it cannot release its slot.
        self._lock = threading.RLock()
        self._said: set[Hashable] = set()
        self._throttled: dict[Hashable, tuple[float, int]] = {}

    def once(self, subject: Hashable, message: str, *args: object) -> None:
        """Log a warning, if there was none about this subject."""
        if self.first(subject):
            logger.warning(message, *args)

    def first(self, subject: Hashable) -> bool:
        """Is a line about this subject the first one? Then say it: the next answer is no."""
        with self._lock:
            if subject in self._said:
                return False
            if len(self._said) >= SUBJECTS:
                self._said.clear()
            self._said.add(subject)
        return True

    def throttled(self, subject: Hashable, message: str, *args: object, level: int = logging.WARNING) -> bool:
        """Log a line, if there was none about this subject in the last ten seconds. Was it logged?"""
        now = self._clock()
        with self._lock:
            before, left_out = self._throttled.get(subject, (-EVERY, 0))
            if now - before < EVERY:
                self._throttled[subject] = before, left_out + 1
                return False
            if len(self._throttled) >= SUBJECTS:
                self._throttled.clear()
            self._throttled[subject] = now, 0
        more = f" ({left_out} more like this since the last line)" if left_out else ""
        logger.log(level, "%s%s", message % args, more)
        return True
