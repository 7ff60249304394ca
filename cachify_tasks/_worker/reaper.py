"""The reaper: a thread of each worker that heals what dead workers have left. No leader, no traffic needed."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from .._core.commands import Sweep
from .._core.key_commands import Claim, Due, Ping
from .._core.replies import Heir
from .._runtime.events import StoreUnreachable
from .._runtime.runtime import Runtime
from ..errors import CachifyStoreError

logger = logging.getLogger("cachify_tasks")

EVERY: Final = 0.43  # seconds between two looks of a worker, each of two commands
SPREAD: Final = 0.1  # of that, by chance: so that it is not always the same worker that gets the claim
RARELY: Final = 10.0  # seconds between two looks while nothing waits in any pool


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

    def take_news(self) -> bool:
        """Has the worker parked tasks, or met heirs, since it was asked last?"""

    def offer(self, pool: str, heirs: Sequence[Heir]) -> None:
        """Start these heirs."""


class Reaper:
    """Sweeps the pools that are due, by the store's index, and offers the heirs to its worker.

    Of the workers that find a pool due at the same time one gets the claim. It does not matter which one; if it dies,
    another gets the next.
    """

    def __init__(
        self, runtime: Runtime, host: ReaperHost, *, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._host = host
        self._clock = clock
        self._look_at = 0.0
        self._dice = random.Random()  # of its own: a program may count on the sequence of the module's
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachify-reaper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(EVERY * self._dice.uniform(1 - SPREAD, 1 + SPREAD)):
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
        host = self._host
        if host.store_down:
            self._runtime.store.execute(Ping())
            host.resume()
        host.resend()
        if host.has_capacity and (host.take_news() or self._clock() >= self._look_at):
            self.look()

    def look(self) -> None:
        """Sweep the pools that are due, unless another worker is at it."""
        store = self._runtime.store
        due = store.execute(Due())
        self._look_at = 0.0 if due.waiting else self._clock() + RARELY
        if not due.pools or not store.execute(Claim("reaper", round(EVERY * 900))):
            return
        for pool in due.pools:
            reply = store.execute(Sweep(pool=pool, start_ms=self._runtime.start_ms))
            if reply.heirs:
                self._host.offer(pool, reply.heirs)
