"""The port of a framework whose tasks run in an event loop: it asks for slots around the framework's own handling.

All of it belongs to that loop, but what the reaper's thread asks, and `call_in_worker`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Final, Generic, TypeVar, assert_never

from .._core.replies import Heir, Reply
from .._runtime.events import StoreUnreachable
from .._runtime.runtime import Runtime
from ..errors import CachifyStoreError
from .admissions import admitted
from .endings import Ending
from .held_slots import slot_of
from .loop_delivery import LoopDelivery
from .outage import FIRST
from .outbox import Entry, Report
from .port import Delivery, HandOver, Later, M, Refusal, TaskRequest, next_header
from .postponed import PostponedMessages
from .reaper import Reaper
from .verdicts import (
    AskAgain,
    Discard,
    Done,
    Fail,
    Leave,
    Refuse,
    Revoke,
    SendLater,
    Start,
    StartWith,
    StartWithoutSlot,
    Verdict,
)
from .worker import Worker

logger = logging.getLogger("cachify_tasks")

ANSWERED_BY: Final = 0.5  # seconds that an ended run waits for the answer to its release: the store may hang


D = TypeVar("D", bound=LoopDelivery)
Run = Callable[[D], Awaitable[None]]  # the framework handles the delivery: runs its task, saves, acknowledges


class LoopGate(ABC, Generic[M, D]):
    """One per worker and event loop.

    Attributes:
        core: decides, and keeps the state: see `_worker.worker`.
        queue: names the queue that the worker reads.
    """

    reserves_for_itself = True

    def __init__(self, runtime: Runtime, queue: str) -> None:
        self.runtime = runtime
        self.queue = queue
        self.loop = asyncio.get_running_loop()
        self.core: Worker[M] = Worker(runtime, self)
        self._thread = threading.get_ident()
        self._heirs: deque[D] = deque()  # they wait for capacity
        self._ending = 0  # runs that wait for the answer to their release, and make room for an heir then
        self._reports: set[asyncio.Future[Reply]] = set()  # commands that were sent, and are not answered
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._postponed = PostponedMessages(runtime, queue, self.publish)
        self.spawn(self._postponed.send_due_ones())
        self._reaper = Reaper(runtime, self)
        self._reaper.start()

    # What a framework provides

    @property
    @abstractmethod
    def kind(self) -> str: ...

    @property
    @abstractmethod
    def is_stopping(self) -> bool:
        """Has the framework begun to stop this worker? Any thread."""

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Does the worker run as many tasks as it may? Any thread."""

    @abstractmethod
    def capacity(self) -> AbstractAsyncContextManager[object]:
        """Waits until the worker may run one more, and holds its place."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Until the store is worth another try; tasks without a pool are to go on meanwhile."""

    @abstractmethod
    async def run_heir(self, delivery: D) -> None:
        """`Run` of a delivery that no message of the broker has brought."""

    @abstractmethod
    def delivery_of(self, message: M) -> D:
        """The delivery of a parked task's message.

        Raises:
            UnreadableError: its content cannot be read.
        """

    @abstractmethod
    async def save_error(self, task_id: str, error: Exception, delivery: D | None) -> None:
        """Make this the task's result."""

    @abstractmethod
    def error_of(self, message: M | None, why: Ending) -> Exception:
        """What the sender of a parked task gets that ends without a run."""

    @abstractmethod
    def with_header(self, delivery: D, header: str) -> bytes:
        """The delivery's message as it is sent again, with another header."""

    @abstractmethod
    def as_hint(self, handover: HandOver[M]) -> bytes:
        """The message by which another worker learns of a parked task."""

    @abstractmethod
    async def publish(self, data: bytes) -> None:
        """Send a message to the worker's queue."""

    @abstractmethod
    def open(self, envelope: bytes) -> M: ...

    @abstractmethod
    def knows(self, message: M) -> bool: ...

    @abstractmethod
    def can_run(self, message: M, waiting: int) -> Refusal | Later | None: ...

    # What the reaper asks

    @property
    def accepting(self) -> bool:
        return not (self._closed or self.is_stopping)

    @property
    def has_capacity(self) -> bool:
        return self.accepting and not self.is_full

    @property
    def has_place_for_heir(self) -> bool:
        """Soon, that is: a run has just ended, or nothing else waits."""
        return not self.is_full or len(self.core.handovers) < max(self._ending, 1)

    @property
    def store_down(self) -> bool:
        return self.core.outage.is_on

    def resume(self) -> None:
        self.core.outage.end_pause()

    def resend(self) -> None:
        self.core.resend()

    def take_news(self) -> bool:
        return self.core.take_news()

    def offer(self, pool: str, heirs: Sequence[Heir]) -> None:
        self.core.start_heirs(pool, heirs)

    # Deliveries

    async def handle(self, delivery: D, run: Run[D]) -> None:
        """A message has come, or an heir's turn: run its task if it may run, and heirs after it."""
        while True:
            await self._decide(delivery)
            if not isinstance(delivery.verdict, AskAgain):
                break
            if not self.accepting or delivery.state.stored is not None:
                return  # unacknowledged: the broker, or the store, delivers it again
            await self.pause(max(self.core.outage.left, FIRST))
            delivery.is_copy = True  # an arrival whose reply was lost may have been parked, and may run elsewhere
        await self._act(delivery, run)

    async def run_heirs(self) -> None:
        """Heirs go before messages that the broker has delivered: they get the capacity that is free now."""
        while self._heirs and self.accepting:
            await self.handle(self._heirs.popleft(), self.run_heir)

    async def _decide(self, delivery: D) -> None:
        core = self.core
        command = core.request(delivery)
        if delivery.state.passed_on:
            delivery.verdict = Leave()
        elif command is None or isinstance(command, Fail):
            delivery.verdict = command or Start(0)
        elif core.begin_reserved(delivery, command):
            delivery.verdict = Start(0)
            for entry in core.outbox.take():
                self._report(entry)
        else:
            core.on_reply(delivery, command, await self._ask(command))

    async def _ask(self, command: TaskRequest) -> Reply | CachifyStoreError:
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

    def apply(self, delivery: Delivery, verdict: Verdict) -> bool:
        delivery.verdict = verdict  # type: ignore[attr-defined]  # `_act` does it: it awaits
        return True

    async def _act(self, delivery: D, run: Run[D]) -> None:
        verdict = delivery.verdict
        match verdict:
            case Start() | StartWith() | StartWithoutSlot() | Fail():
                await self._run(delivery, run)
            case Done() | Discard():
                await delivery.acknowledge()
            case Leave() | AskAgain():
                pass
            case Revoke(full) | Refuse(full):
                await self.save_error(delivery.attempt.task_id, full.as_error("the task was dropped"), delivery)
                await delivery.acknowledge()
            case SendLater(seconds, deferrals):
                await self._send_later(delivery, seconds, deferrals)
                await delivery.acknowledge()
            case _:
                assert_never(verdict)

    async def _run(self, delivery: D, run: Run[D]) -> None:
        try:
            with admitted(self.runtime, delivery):
                await run(delivery)
        finally:
            work = delivery.work
            if work is None or work.done():
                self._on_end(delivery)
            else:  # a thread outlives the time-out of its task
                work.add_done_callback(lambda _: self.call_in_worker(lambda: self._on_end(delivery)))
        if self._reports and self.accepting:  # one of the answers may name an heir, which runs here and now
            self._ending += 1
            try:
                await asyncio.wait(list(self._reports), timeout=ANSWERED_BY)
            finally:
                self._ending -= 1

    def _on_end(self, delivery: D) -> None:
        self.core.on_run_end(delivery, requeue=not delivery.acked)

    async def _send_later(self, delivery: D, seconds: float, deferrals: int) -> None:
        delivery.is_copy = True  # it may be sent twice, by a worker that dies in between
        data = self.with_header(delivery, next_header(delivery, deferrals))
        try:
            await self._postponed.add(delivery.attempt.name, data, seconds)
        except CachifyStoreError:  # then it waits here; a broker that can deliver it again has it meanwhile
            await asyncio.sleep(seconds)
            await self.publish(data)

    # Parked tasks

    def take_over(self, delivery: Delivery) -> None:
        self.spawn(delivery.acknowledge_to_broker())  # type: ignore[attr-defined]
        delivery.acked = False  # type: ignore[attr-defined]

    def deliver(self, handover: HandOver[M]) -> D:
        delivery = self.delivery_of(handover.message)
        delivery.state.stored = handover.stored()
        delivery.acked = False
        return delivery

    def end(self, task_id: str, message: M | None, why: Ending, recorded: Callable[[], None]) -> None:
        async def end() -> None:
            await self.save_error(task_id, self.error_of(message, why), None)
            recorded()

        self.spawn(end())

    def is_revoked(self, delivery: Delivery) -> bool:
        return False

    def run(self, delivery: Delivery) -> None:
        self._heirs.append(delivery)  # type: ignore[arg-type]
        if len(self._heirs) > self._ending:
            self.on_extra_run(self.spawn(self._run_heirs_when_free()))

    def on_extra_run(self, task: asyncio.Task[None]) -> None:
        """Heirs run in this task, besides what the framework has started."""

    async def _run_heirs_when_free(self) -> None:
        async with self.capacity():
            await self.run_heirs()

    def hint(self, handover: HandOver[M]) -> None:
        self.spawn(self.publish(self.as_hint(handover)))

    # Transport

    def send(self, command: Report, *, at_once: bool) -> None:
        if self.core.outbox.entries or self.store_down:
            self.core.outbox.add(command)  # in their order; the reaper's thread sends them
        else:
            self._report(Entry(command, self.core.clock()))

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
        self._closed = True
        self._reaper.stop()
        self._postponed.stop()
        self._heirs.clear()
        self.core.handovers.pass_on(self.core.give_back)
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout)
        if self._reports:
            await asyncio.wait(list(self._reports))
        self.core.resend()
