"""Log lines that would come too often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

logger = logging.getLogger("cachify_tasks")

EVERY: Final = 10.0  # seconds between two lines about one subject
SUBJECTS: Final = 10_000  # remembered at most; then all are forgotten


class LogThrottle:
    """Says a thing once, or at most once in ten seconds with a count of what was left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()  # a collected generator can come in the middle, with a slot it cannot release
        self._said: set[Hashable] = set()
        self._throttled: dict[Hashable, tuple[float, int]] = {}

    def once(self, subject: Hashable, message: str, *args: Any) -> None:
        with self._lock:
            if subject in self._said:
                return
            if len(self._said) >= SUBJECTS:
                self._said.clear()
            self._said.add(subject)
        logger.warning(message, *args)

    def throttled(self, subject: Hashable, message: str, *args: Any, level: int = logging.WARNING) -> None:
        now = self._clock()
        with self._lock:
            before, unsaid = self._throttled.get(subject, (-EVERY, 0))
            if now - before < EVERY:
                self._throttled[subject] = before, unsaid + 1
                return
            if len(self._throttled) >= SUBJECTS:
                self._throttled.clear()
            self._throttled[subject] = now, 0
        more = f" ({unsaid} more like this since the last line)" if unsaid else ""
        logger.log(level, "%s%s", message % args, more)
