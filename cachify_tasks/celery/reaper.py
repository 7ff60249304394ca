"""The reaper: a thread of each worker that heals what dead workers have left. No leader, no traffic needed."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from .._core.commands import Claim, Due, Sweep
from .._runtime.events import StoreUnreachable
from ..errors import CachifyStoreError

logger = logging.getLogger("cachify_tasks.celery")

EVERY: Final = 1.0  # seconds between two rounds of all workers together


class Reaper:
    """Sweeps the pools whose index says that somebody is due, and offers what it finds to the worker's gate.

    In each interval one worker gets the claim; which one does not matter, and if it dies another gets the next.
    """

    def __init__(self, gate: Any) -> None:
        self._gate, self._runtime = gate, gate.runtime
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachify-reaper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(EVERY):
            try:
                if self._gate.closed:
                    self._runtime.store.execute(Due())
                    self._gate.reopen()
                self._gate.tell_again()
                if self._gate.has_capacity and self._runtime.store.execute(Claim("reaper", round(EVERY * 900))):
                    self.round()
            except CachifyStoreError as error:
                self._runtime.emit(StoreUnreachable(doing="looking for parked tasks", error=error))
            except Exception:
                logger.exception("looking for parked tasks failed; trying again")

    def round(self) -> None:
        """Look once at all pools."""
        store, start_ms = self._runtime.store, self._runtime.start_ms
        for pool in store.execute(Due()):
            reply = store.execute(Sweep(pool=pool, start_ms=start_ms))
            if reply.heirs:
                self._gate.offer(pool, reply.heirs)
