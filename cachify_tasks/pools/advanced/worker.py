"""A thread that runs one job after another."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .crew import Crew
    from .jobs import Entry


class Worker:
    """
    Attributes:
        job: what it runs, or has been handed.
        wake: held while it has nothing to do; released once by whoever takes it out of the crew's idle ones.
        done, failed: calls that have ended, and those that raised; it alone writes them.
    """

    __slots__ = ("_idle", "crew", "done", "failed", "job", "outbox", "thread", "wake")

    def __init__(self, crew: Crew, job: Entry | None, name: str, *, idle: bool) -> None:
        self.crew, self.outbox, self.job, self._idle = crew, crew.outbox, job, idle
        self.done = self.failed = 0
        self.wake = threading.Lock()
        self.wake.acquire()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def ended(self, calls: int, *, failed: bool) -> None:
        """Count before it is told: who is told may look at once."""
        self.done += calls
        self.failed += failed
        self.job = None

    def _run(self) -> None:
        crew = self.crew
        job: Entry | None = None
        try:
            crew.initializer()
        except BaseException as error:  # noqa: BLE001  # told to whoever uses the pool
            crew.break_down(self, error)
            return
        try:
            job = crew.next(self, idle=True) if self._idle else self.job or crew.next(self)
            while job is not None:
                job.work(self)
                self.job = job = None  # nothing is kept while it waits
                job = crew.next(self)
        except BaseException as error:  # noqa: BLE001  # thrown into the thread from outside
            crew.lose(self, error)
        else:
            crew.gone(self, self.done)
