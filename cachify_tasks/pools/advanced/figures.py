"""What a pool tells of itself."""

from __future__ import annotations

import time

from .crew import Crew
from .stats import AdvancedPoolStats


class Figures:
    """The properties of `AdvancedPool`: they hold for the moment, and may be read from any thread."""

    _crew: Crew
    _began: float
    _ended: float

    def stats(self) -> AdvancedPoolStats:
        """What the pool does at this moment."""
        crew = self._crew
        completed, failed = crew.completed()
        return AdvancedPoolStats(
            workers=len(crew.workers),
            busy=len(crew.running()),
            min_workers=crew.limits.least,
            max_workers=crew.limits.most,
            limit=crew.places,
            queued=crew.lanes.live,
            waiting=len(crew.line),
            completed=completed,
            failed=failed,
            cancelled=crew.cancelled,
            uptime=self.uptime,
        )

    @property
    def _most(self) -> int:
        return self._crew.limits.most

    @property
    def completed(self) -> int:
        """Calls that have returned or raised, each item of a map being one."""
        return self._crew.completed()[0]

    @property
    def empty(self) -> bool:
        """Does nothing wait in the queue?"""
        return not self._crew.lanes.live

    @property
    def full(self) -> bool:
        """Is there no place in the queue? Then `submit` and `wait_for_slot` wait."""
        return self._crew.places is not None and self._crew.lanes.live >= self._crew.places

    @property
    def idle(self) -> bool:
        """Does nothing wait, and nothing run?"""
        return not self._crew.lanes.live and not self._crew.running()

    @property
    def qsize(self) -> int:
        """Calls that wait in the queue; a map is one, from its start until its last item has begun."""
        return self._crew.lanes.live

    @property
    def uptime(self) -> float:
        """Seconds since the start; when it has been shut down, until then."""
        return (self._ended or time.monotonic()) - self._began if self._began else 0.0
