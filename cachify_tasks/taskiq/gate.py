"""`Gate`: asks for slots around the `callback` of a Taskiq receiver.

Around `callback`, not `run_task`: before any middleware's `pre_execute`, so that a dashboard does not see a parked task
as one that has run; and after all of its hooks, so that the slot is freed whichever of them raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taskiq.acks import AckableMessage
from taskiq.brokers.inmemory_broker import InMemoryBroker
from taskiq.exceptions import UnknownTaskError
from taskiq.result import TaskiqResult

from .._runtime.runtime import Runtime
from .._worker.attempt import hint_of
from .._worker.endings import Ending, Unknown, UnreadableError
from .._worker.executor import TrackingExecutor
from .._worker.loop_gate import LoopGate
from .._worker.port import HandOver, Refusal
from .delivery import HandedOver, TaskFacts, TaskiqDelivery
from .envelope import KIND, LABEL, Envelope, attempt_of, queue_of, read

if TYPE_CHECKING:
    from taskiq.receiver import Receiver

KEPT: Final = 1000  # deliveries that wait for the store, besides those that the receiver may have
Callback: TypeAlias = Callable[["bytes | AckableMessage"], Awaitable[None]]


class TaskEndedError(Exception):
    """The result of a parked task that ended without a run; its text says why."""


class Gate(LoopGate[Envelope, TaskiqDelivery]):
    """One per receiver and event loop. finish: Taskiq sets it when the receiver is to end."""

    kind: Final = KIND

    def __init__(self, runtime: Runtime, receiver: Receiver, facts_of: Callable[[str], TaskFacts]) -> None:
        self.receiver = receiver
        self.broker = receiver.broker
        self.finish: asyncio.Event | None = None
        self._facts_of = facts_of
        self._pausing = 0  # deliveries that wait for the store
        if receiver.executor is not None and not isinstance(receiver.executor, TrackingExecutor):
            receiver.executor = TrackingExecutor(receiver.executor)
        super().__init__(runtime, queue_of(receiver.broker))

    # Messages of the broker

    async def on_message(self, raw: bytes | AckableMessage, callback: Callback) -> None:
        """A message has arrived, and there is capacity: Taskiq's own `callback` runs its task, if it may run."""
        delivery = None if isinstance(raw, HandedOver) else self._delivery(raw)
        if delivery is None:
            await callback(raw)
        elif delivery.header.hint is not None and self.broker.find_task(delivery.task_name) is None:
            await delivery.acknowledge_to_broker()
            self.core.handovers.on_unknown_hint(delivery.header.hint, delivery.attempt.holder)
        else:
            await self.handle(delivery, lambda delivery: callback(delivery.for_taskiq()))
        if not isinstance(raw, HandedOver):
            await self.run_heirs()

    def _delivery(self, raw: bytes | AckableMessage) -> TaskiqDelivery | None:
        """None: the task has no pool, or Taskiq deals with the message (it cannot be read)."""
        try:
            message = read(self.broker, raw.data if isinstance(raw, AckableMessage) else raw)
        except Exception:  # noqa: BLE001  # Taskiq meets it, too, and says so
            return None
        facts, header = self._facts_of(message.task_name), message.labels.get(LABEL)
        if facts.limit is None and hint_of(header) is None:
            return None
        return TaskiqDelivery(self, raw, message, facts, header)

    # What this worker can do now

    @property
    def is_stopping(self) -> bool:
        return self.finish is not None and self.finish.is_set()

    @property
    def is_full(self) -> bool:
        return self.receiver.sem is not None and self.receiver.sem.locked()

    def capacity(self) -> AbstractAsyncContextManager[object]:
        return nullcontext() if self.receiver.sem is None else self.receiver.sem

    async def pause(self, seconds: float) -> None:
        """It gives back what the delivery has taken, and takes it again as Taskiq does, in the same order."""
        receiver = self.receiver
        if receiver.sem is None or isinstance(self.broker, InMemoryBroker) or self._pausing >= KEPT:
            await asyncio.sleep(seconds)
            return
        self._pausing += 1
        receiver.sem.release()
        receiver.sem_prefetch.release()
        await asyncio.sleep(seconds)
        self._pausing -= 1
        await receiver.sem_prefetch.acquire()
        await receiver.sem.acquire()

    def knows(self, message: Envelope) -> bool:
        return self.broker.find_task(message.task_name) is not None

    def can_run(self, message: Envelope, waiting: int) -> Refusal | None:
        if not self.accepting:
            return Refusal.NOT_YET
        if message.queue != self.queue:
            return Refusal.NOT_MINE
        if not self.knows(message):
            return Refusal.UNKNOWN
        return None if self.has_place_for_heir else Refusal.NO_CAPACITY

    # Parked tasks

    def open(self, envelope: bytes) -> Envelope:
        return Envelope.opened(envelope, self.broker)

    def delivery_of(self, message: Envelope) -> TaskiqDelivery:
        try:
            parsed = read(self.broker, message.data)
        except Exception as error:
            raise UnreadableError(repr(error)) from error
        return TaskiqDelivery(self, message.data, parsed, self._facts_of(message.task_name), message.header)

    async def run_heir(self, delivery: TaskiqDelivery) -> None:
        await self.receiver.callback(delivery.for_taskiq())

    def on_extra_run(self, task: asyncio.Task[None]) -> None:
        if isinstance(self.broker, InMemoryBroker):  # its `wait_all` waits for them, too
            self.broker._running_tasks.add(task)
            task.add_done_callback(self.broker._running_tasks.discard)

    async def save_error(self, task_id: str, error: Exception, delivery: TaskiqDelivery | None) -> None:
        labels = {} if delivery is None else delivery.message.labels
        result: TaskiqResult[Any] = TaskiqResult(
            is_err=True, log=None, return_value=None, execution_time=0, error=error, labels=labels
        )
        await self.broker.result_backend.set_result(task_id, result)

    def error_of(self, message: Envelope | None, why: Ending) -> Exception:
        if isinstance(why, Unknown) and message is not None:
            return UnknownTaskError(task_name=message.task_name)
        return TaskEndedError(str(why))

    # Messages to the broker

    def with_header(self, delivery: TaskiqDelivery, header: str) -> bytes:
        return self._labelled(delivery.data, header)

    def as_hint(self, handover: HandOver[Envelope]) -> bytes:
        attempt, header = attempt_of(handover.message.message, handover.message.header)
        return self._labelled(handover.message.data, replace(header, hint=handover.hint()).encode(attempt))

    def _labelled(self, data: bytes, header: str) -> bytes:
        message = self.broker.formatter.loads(message=data)
        message.labels[LABEL] = header
        return self.broker.formatter.dumps(message).message

    async def publish(self, data: bytes) -> None:
        await self.broker.kick(self.broker.formatter.dumps(self.broker.formatter.loads(message=data)))
