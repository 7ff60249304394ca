"""The reaper: a thread of each worker that heals what dead workers have left. No leader, no traffic needed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final, Protocol

from .._core.commands import Claim, Due, Heir, Ping, Sweep
from .._runtime.events import StoreUnreachable
from .._runtime.runtime import Runtime
from ..errors import CachifyStoreError

logger = logging.getLogger("cachify_tasks")

EVERY: Final = 1.0  # seconds between two rounds of all workers together


class ReaperHost(Protocol):
    """What the reaper asks of its worker. All of it is called by the reaper's thread."""

    @property
    def store_down(self) -> bool:
        """Does the worker send nothing for now, because the store did not answer?"""

    def resume(self) -> None:
        """The store answers again."""

    def resend(self) -> None:
        """Send commands that the store did not confirm, unless another thread sees to that."""

    @property
    def has_capacity(self) -> bool:
        """Should the reaper start parked tasks on this worker?"""

    def offer(self, pool: str, heirs: Sequence[Heir]) -> None:
        """Start these heirs."""


class Reaper:
    """Sweeps the pools that are due, by the store's index, and offers the heirs to its worker.

    In each interval one worker gets the claim. It does not matter which one; if it dies, another gets the next.
    """

    def __init__(self, runtime: Runtime, host: ReaperHost) -> None:
        self._runtime = runtime
        self._host = host
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachify-reaper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(EVERY):
            try:
                self.round()
            except CachifyStoreError as error:
                self._runtime.emit(StoreUnreachable(doing="looking for parked tasks", error=error))
            except Exception:
                logger.exception("looking for parked tasks failed; trying again")

    def round(self) -> None:
        """One look: is the store back, are there unconfirmed commands, has a pool something to start?

        Raises:
            CachifyStoreError: the store is out of reach.
        """
        store, host = self._runtime.store, self._host
        if host.store_down:
            store.execute(Ping())
            host.resume()
        host.resend()
        if host.has_capacity and store.execute(Claim("reaper", round(EVERY * 900))):
            self.sweep()

    def sweep(self) -> None:
        """Look once at all pools that are due."""
        store, start_ms = self._runtime.store, self._runtime.start_ms
        for pool in store.execute(Due()):
            reply = store.execute(Sweep(pool=pool, start_ms=start_ms))
            if reply.heirs:
                self._host.offer(pool, reply.heirs)
