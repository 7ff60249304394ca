"""How a worker in an event loop talks to the store without waiting, and what the reaper's thread asks of it.

All of it belongs to that loop, but `call_in_worker` and what the reaper asks.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from .._core.replies import Reply
from .._runtime.events import StoreUnreachable
from .._runtime.runtime import Runtime
from ..errors import CachifyStoreError
from .held_slots import slot_of
from .outbox import Entry, Report
from .port import TaskRequest
from .postponed import PostponedMessages
from .reaper import Reaper
from .worker_host import WorkerHost

if TYPE_CHECKING:
    from .worker import Worker

logger = logging.getLogger("cachify_tasks")
M_co = TypeVar("M_co", covariant=True)

ANSWERED_BY: Final = 0.5  # seconds that an ended run waits for the answer to its release: the store may hang


class LoopTransport(WorkerHost, ABC, Generic[M_co]):
    """One per worker and event loop.

    Attributes:
        core: decides, and keeps the state: see `_worker.worker`.
        queue: names the queue that the worker reads.
        closed: it has ended, and takes up nothing more.
        ending: runs that wait for the answer to their release, and make room for an heir then.
    """

    core: Worker[M_co]
    reserves_for_itself = True

    def __init__(self, runtime: Runtime, queue: str, core: Worker[M_co]) -> None:
        self.runtime = runtime
        self.queue = queue
        self.core = core
        self.loop = asyncio.get_running_loop()
        self.ending = 0
        self._thread = threading.get_ident()
        self._reports: set[asyncio.Future[Reply]] = set()  # commands that were sent, and are not answered
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = False
        self._postponed = PostponedMessages(runtime, queue, self.publish)
        self._reaper = Reaper(runtime, self)

    def start(self) -> None:
        self.spawn(self._postponed.send_due_ones())
        self._reaper.start()

    @abstractmethod
    async def publish(self, data: bytes) -> None:
        """Send a message to the worker's queue."""

    @property
    @abstractmethod
    def is_stopping(self) -> bool:
        """Has the framework begun to stop this worker? Any thread."""

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Does the worker run as many tasks as it may? Any thread."""

    # What the reaper asks

    @property
    def accepting(self) -> bool:
        return not (self.closed or self.is_stopping)

    @property
    def has_capacity(self) -> bool:
        return self.accepting and not self.is_full

    # Commands

    async def ask(self, command: TaskRequest) -> Reply | CachifyStoreError:
        """The store's answer, or that there is none."""
        if not self.core.outage.may_ask():
            return CachifyStoreError("the store is out of reach")
        try:
            return await self.runtime.store.begin(command)
        except CachifyStoreError as error:
            self.core.outage.begin()
            return error
        except asyncio.CancelledError:  # nobody knows whether it has a slot now
            self.send(slot_of(self.runtime, command, 0).release_command(requeue=True), at_once=True)
            raise

    def send(self, command: Report, *, at_once: bool) -> None:
        if self.core.outbox.entries or self.store_down:
            self.core.outbox.add(command)  # in their order; the reaper's thread sends them
        else:
            self._report(Entry(command, self.core.clock()))

    def send_outbox(self) -> None:
        for entry in self.core.outbox.take():
            self._report(entry)

    def _report(self, entry: Entry) -> None:
        sent: asyncio.Future[Reply] = self.runtime.store.begin(entry.command)
        self._reports.add(sent)
        sent.add_done_callback(partial(self._on_reported, entry))

    def _on_reported(self, entry: Entry, sent: asyncio.Future[Reply]) -> None:
        self._reports.discard(sent)
        if sent.cancelled():
            self.core.outbox.add(entry.command)
            return
        error = sent.exception()
        if error is None:
            self.core.on_report_reply(entry.command, sent.result(), entry.since)
        elif isinstance(error, CachifyStoreError):
            self.runtime.emit(StoreUnreachable(doing="releasing slots", error=error))
            self.core.outbox.put_back([entry])
        else:
            raise error

    async def reported(self) -> None:
        """A run has ended: wait for the answers to what was sent. One of them may name an heir, for its place."""
        if self._reports and self.accepting:
            self.ending += 1
            try:
                await asyncio.wait(list(self._reports), timeout=ANSWERED_BY)
            finally:
                self.ending -= 1

    # The loop

    def call_in_worker(self, call: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread:
            call()
        else:
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(call)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.loop.call_later(seconds, call)

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_spawned_end)
        return task

    def _on_spawned_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a step for a parked task failed: %r", error)

    async def close(self, timeout: float | None) -> None:
        """The worker has ended, or its program: give back what waits here, and wait for what runs.

        Args:
            timeout: seconds to wait for it; None: as long as it takes.
        """
        self.closed = True
        self._reaper.stop()
        self._postponed.stop()
        self.core.handovers.pass_on(self.core.give_back)
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout)
        if self._reports:
            await asyncio.wait(list(self._reports))
        self.core.resend()
