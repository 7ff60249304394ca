"""The port of a framework whose tasks run in an event loop: it asks for slots around the framework's own handling."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final, Generic, TypeAlias, TypeVar

from .._runtime.runtime import Runtime
from ..errors import CachifyStoreError
from .admissions import admitted
from .announcing import shown
from .attempt import Attempt, Header, hint_of
from .endings import Ending, Unknown, UnreadableError
from .kept_message import KeptMessage
from .known_tasks import KnownTasks
from .loop_delivery import LoopDelivery
from .loop_transport import LoopTransport
from .outage import FIRST
from .port import Delivery, HandOver, Refusal, next_header
from .verdicts import (
    AskAgain,
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
BREATH: Final = 1.0  # seconds that a slot is kept after a run that has not acknowledged its message

P = TypeVar("P")  # what the framework reads in a message
D = TypeVar("D", bound=LoopDelivery)
Run: TypeAlias = Callable[[D], Awaitable[None]]  # the framework runs the delivery's task, saves, acknowledges


class TaskEndedError(Exception):
    """The result of a parked task that ended without a run; its text says why."""


class LoopGate(LoopTransport[KeptMessage[P]], Generic[P, D]):
    """One per worker and event loop.

    Attributes:
        tasks: what the worker knows of its tasks.
    """

    def __init__(self, runtime: Runtime, queue: str, tasks: KnownTasks) -> None:
        super().__init__(runtime, queue, Worker(runtime, self))
        self.tasks = tasks
        self._heirs: deque[D] = deque()  # they wait for capacity
        self._context = contextvars.copy_context()  # as it is before any task has run

    # What a framework provides

    @property
    @abstractmethod
    def kind(self) -> str: ...

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
    def read(self, data: bytes) -> P:
        """What is in a message.

        Raises:
            Exception: it cannot be read.
        """

    @abstractmethod
    def knows_task(self, parsed: P) -> bool: ...

    @abstractmethod
    def attempt_of(self, parsed: P, header: str | None) -> tuple[Attempt, Header]:
        """Which attempt a message is of. header: ours, where it is not in the message."""

    @abstractmethod
    def delivery_of(self, kept: KeptMessage[P]) -> D:
        """The delivery of a parked task's message."""

    @abstractmethod
    def with_header(self, data: bytes, header: str) -> bytes:
        """A message as it is sent again, with another header."""

    @abstractmethod
    async def save_error(self, task_id: str, error: Exception, parsed: P | None) -> None:
        """Make this the task's result."""

    @abstractmethod
    def unknown(self, parsed: P) -> Exception:
        """The framework's error for a task that it does not know."""

    # Deliveries

    async def on_message(self, delivery: D, run: Run[D], *, known: bool) -> None:
        """A message has come, and there is capacity for it: run its task, if it may run.

        Args:
            known: the worker knows its task.
        """
        hint = delivery.header.hint
        if hint is not None and not known:
            await delivery.acknowledge_to_broker()
            self.core.handovers.on_unknown_hint(hint, delivery.attempt.holder)
        else:
            await self._handle(delivery, run)

    async def run_heirs(self) -> None:
        """Heirs go before messages that the broker has delivered: they get the capacity that is free now."""
        while self._heirs and self.accepting:
            heir = self._heirs.popleft()
            run = self._handle(heir, self.run_heir)
            try:  # it must not see context variables that the task before it has set
                await self.loop.create_task(run, context=self._context.copy())
            except Exception:  # of the framework's, or of another extension of it; nobody else would tell
                logger.exception("the run of the parked task %s broke off", shown(heir))

    def is_ours(self, name: str, header: str | None) -> bool:
        """Has a message to do with a pool: by its task, or because it is a hint?"""
        return self.tasks.get(name).limit is not None or hint_of(header) is not None

    async def _handle(self, delivery: D, run: Run[D]) -> None:
        while True:
            await self._decide(delivery)
            verdict = delivery.verdict
            if isinstance(verdict, Start | StartWith | StartWithoutSlot | Fail):
                await self._run(delivery, run)
                return
            if not isinstance(verdict, AskAgain) and await self._applied(delivery, verdict):
                return
            if not self.accepting or delivery.state.stored is not None:
                return  # unacknowledged: the broker, or the store, delivers it again
            await self.pause(max(self.core.outage.left, FIRST))
            delivery.is_copy = True  # an arrival whose reply was lost may have been parked, and may run elsewhere

    async def _decide(self, delivery: D) -> None:
        core = self.core
        command = core.request(delivery)
        if delivery.state.passed_on:
            delivery.verdict = Leave()
        elif command is None or isinstance(command, Fail):
            delivery.verdict = command or Start(0)
        elif core.begin_reserved(delivery, command):
            delivery.verdict = Start(0)
            self.send_outbox()
        else:
            core.on_reply(delivery, command, await self.ask(command))

    def apply(self, delivery: Delivery, verdict: Verdict) -> bool | None:
        _own(delivery).verdict = verdict
        at_once = isinstance(verdict, Start | StartWith | StartWithoutSlot | Fail | AskAgain)
        return True if at_once else None  # `_applied` does it: it awaits

    async def _applied(self, delivery: D, verdict: Verdict) -> bool:
        """Was it done? If not, the delivery asks again."""
        try:
            await self._do(delivery, verdict)
        except Exception as error:  # noqa: BLE001  # whatever a broker or a result backend raises
            logger.error("%s could not be dealt with: %r; trying again", shown(delivery), error)
            self.core.on_applied(delivery, verdict, done=False)
            return False
        self.core.on_applied(delivery, verdict, done=True)
        return True

    async def _do(self, delivery: D, verdict: Verdict) -> None:
        match verdict:
            case Revoke(full) | Refuse(full):
                error = full.as_error("the task was dropped")
                await self.save_error(delivery.attempt.task_id, error, self.read(delivery.data))
            case SendLater(seconds, deferrals):
                await self._send_later(delivery, seconds, deferrals)
        if not isinstance(verdict, Leave):
            await delivery.acknowledge()

    async def _run(self, delivery: D, run: Run[D]) -> None:
        try:
            with admitted(self.runtime, delivery):
                await run(delivery)
            await self._breathe(delivery)
        except Exception:
            await self._breathe(delivery)
            raise
        finally:
            work = delivery.work
            if work is None or work.done():
                self._on_end(delivery)
            else:  # a thread outlives the time-out of its task
                work.add_done_callback(lambda _: self.call_in_worker(lambda: self._on_end(delivery)))
        await self.reported()

    async def _breathe(self, delivery: D) -> None:
        """A parked task that has not acknowledged its message returns to its queue, and may run again at once."""
        if delivery.is_kept and not delivery.acked:
            await asyncio.sleep(BREATH)

    def _on_end(self, delivery: D) -> None:
        self.core.on_run_end(delivery, requeue=not delivery.acked)

    async def _send_later(self, delivery: D, seconds: float, deferrals: int) -> None:
        delivery.is_copy = True  # it may be sent twice, by a worker that dies in between
        data = self.with_header(delivery.data, next_header(delivery, deferrals))
        command = delivery.state.command
        assert command is not None, "it has asked for a slot"
        try:
            await self._postponed.add(f"{delivery.attempt.name} {command.request_id}", data, seconds)
        except CachifyStoreError:  # then it waits here; a broker that can deliver it again has it meanwhile
            await asyncio.sleep(seconds)
            await self.publish(data)

    # Parked tasks

    def open(self, envelope: bytes) -> KeptMessage[P]:
        return KeptMessage.opened(envelope, self.read)

    def knows(self, message: KeptMessage[P]) -> bool:
        return self.knows_task(message.parsed)

    def can_run(self, message: KeptMessage[P], waiting: int) -> Refusal | None:
        if message.queue != self.queue:
            return Refusal.ELSEWHERE
        if not self.accepting:
            return Refusal.NOT_YET
        if not self.knows(message):
            return Refusal.UNKNOWN
        has_place = not self.is_full or waiting < max(self.ending, 1)  # a run has just ended, or nothing else waits
        return None if has_place else Refusal.NO_CAPACITY

    def take_over(self, delivery: Delivery) -> None:
        delivery = _own(delivery)
        self.spawn(delivery.acknowledge_to_broker())
        delivery.acked = False

    def deliver(self, handover: HandOver[KeptMessage[P]]) -> D:
        try:
            delivery = self.delivery_of(handover.message)
        except Exception as error:
            raise UnreadableError(repr(error)) from error
        delivery.state.stored = handover.stored()
        delivery.acked = False
        return delivery

    def end(
        self, task_id: str, message: KeptMessage[P] | None, why: Ending, recorded: Callable[[], None]
    ) -> None:  # fmt: skip
        parsed = None if message is None else message.parsed
        unknown = isinstance(why, Unknown) and parsed is not None
        error = self.unknown(parsed) if unknown and parsed is not None else TaskEndedError(str(why))

        async def end() -> None:
            await self.save_error(task_id, error, parsed)
            recorded()

        self.spawn(end())

    def is_revoked(self, delivery: Delivery) -> bool:
        return False

    def run(self, delivery: Delivery) -> None:
        self._heirs.append(_own(delivery))  # type: ignore[arg-type]  # all of an adapter's are of one class
        if len(self._heirs) > self.ending:
            self.on_extra_run(self.spawn(self._run_heirs_when_free()))

    def on_extra_run(self, task: asyncio.Task[None]) -> None:  # most frameworks need not know
        """Heirs run in this task, besides what the framework has started."""

    async def _run_heirs_when_free(self) -> None:
        async with self.capacity():
            await self.run_heirs()

    def hint(self, handover: HandOver[KeptMessage[P]]) -> None:
        attempt, header = self.attempt_of(handover.message.parsed, handover.message.header)
        data = self.with_header(handover.message.data, replace(header, hint=handover.hint()).encode(attempt))
        self.spawn(self.publish(data))

    async def close(self, timeout: float | None) -> None:
        self._heirs.clear()
        await super().close(timeout)


def _own(delivery: Delivery) -> LoopDelivery:
    """The deliveries of an adapter are all of its own making."""
    assert isinstance(delivery, LoopDelivery)
    return delivery
