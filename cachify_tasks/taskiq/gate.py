"""`Gate`: asks for slots around the `callback` of a Taskiq receiver.

Around `callback`, not `run_task`: before any middleware's `pre_execute`, so that a dashboard does not see a parked task
as one that has run; and after all of its hooks, so that the slot is freed whichever of them raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakSet

from taskiq.acks import AckableMessage
from taskiq.brokers.inmemory_broker import InMemoryBroker
from taskiq.exceptions import UnknownTaskError
from taskiq.message import TaskiqMessage
from taskiq.result import TaskiqResult

from .._core.policy import Policy
from .._runtime.runtime import Runtime
from .._worker.executor import TrackingExecutor
from .._worker.kept_message import KeptMessage
from .._worker.known_tasks import KnownTasks
from .._worker.loop_gate import LoopGate
from .delivery import LABEL, HandedOver, TaskiqDelivery, attempt_of, data_of, queue_of

if TYPE_CHECKING:
    from taskiq.receiver import Receiver

KEPT: Final = 1000  # deliveries that wait for the store, besides those that the receiver may have
Callback: TypeAlias = Callable[["bytes | AckableMessage"], Awaitable[None]]


class Gate(LoopGate[TaskiqMessage, TaskiqDelivery]):
    """One per receiver and event loop. finish: Taskiq sets it when the receiver is to end."""

    kind: Final = "task/taskiq"

    def __init__(self, runtime: Runtime, receiver: Receiver, tasks: KnownTasks) -> None:
        super().__init__(runtime, queue_of(receiver.broker), tasks)
        self.receiver = receiver
        self.broker = receiver.broker
        self.finish: asyncio.Event | None = None
        self._pausing, self._seen = 0, WeakSet[Policy]()  # deliveries that wait for the store; functions looked at
        if receiver.executor is not None and not isinstance(receiver.executor, TrackingExecutor):
            receiver.executor = TrackingExecutor(receiver.executor)
        self.start()

    async def on_callback(self, raw: bytes | AckableMessage, callback: Callback) -> None:
        """A message has come, and there is capacity for it. callback: Taskiq's own."""
        delivery = None if isinstance(raw, HandedOver) else self._delivery(raw)
        if delivery is None:
            await callback(raw)
        else:
            known = self.knows_task(delivery.message)
            await self.on_message(delivery, lambda one: callback(one.for_taskiq()), known=known)
        if not isinstance(raw, HandedOver):
            await self.run_heirs()

    def _delivery(self, raw: bytes | AckableMessage) -> TaskiqDelivery | None:
        """None: the task has no pool, or Taskiq deals with the message (it cannot be read)."""
        try:
            message = self.read(data_of(raw))
        except Exception:  # noqa: BLE001  # Taskiq meets it, too, and says so
            return None
        if not self.is_ours(message.task_name, message.labels.get(LABEL)):
            return None
        return self._prepared(TaskiqDelivery(self, raw, message))

    def _prepared(self, delivery: TaskiqDelivery) -> TaskiqDelivery:
        """Taskiq is to read annotations and dependencies where the user's function stands, not off what wraps it."""
        policy = delivery.policy
        if policy is not None and policy not in self._seen:
            self._seen.add(policy)
            self.receiver._prepare_task(delivery.task_name, policy.function)
        return delivery

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
        try:
            await asyncio.sleep(seconds)
        finally:  # also when it is cancelled: Taskiq gives both back then
            self._pausing -= 1
            await receiver.sem_prefetch.acquire()
            await receiver.sem.acquire()

    # Messages

    def read(self, data: bytes) -> TaskiqMessage:
        message = self.broker.formatter.loads(message=data)
        message.parse_labels()
        return message

    def knows_task(self, parsed: TaskiqMessage) -> bool:
        return self.broker.find_task(parsed.task_name) is not None

    attempt_of = staticmethod(attempt_of)

    def delivery_of(self, kept: KeptMessage[TaskiqMessage]) -> TaskiqDelivery:
        return self._prepared(TaskiqDelivery(self, kept.data, kept.parsed, kept.header))

    async def run_heir(self, delivery: TaskiqDelivery) -> None:
        await self.receiver.callback(delivery.for_taskiq())

    def on_extra_run(self, task: asyncio.Task[None]) -> None:
        if isinstance(self.broker, InMemoryBroker):  # its `wait_all` waits for them, too
            self.broker._running_tasks.add(task)
            task.add_done_callback(self.broker._running_tasks.discard)

    async def save_error(self, task_id: str, error: Exception, parsed: TaskiqMessage | None) -> None:
        result: TaskiqResult[Any] = TaskiqResult(
            is_err=True, return_value=None, execution_time=0, error=error, labels=parsed.labels if parsed else {}
        )
        result.labels.pop(LABEL, None)
        await self.broker.result_backend.set_result(task_id, result)

    def unknown(self, parsed: TaskiqMessage) -> Exception:
        return UnknownTaskError(task_name=parsed.task_name)

    def with_header(self, data: bytes, header: str) -> bytes:
        message = self.broker.formatter.loads(message=data)
        message.labels[LABEL] = header
        return self.broker.formatter.dumps(message).message

    async def publish(self, data: bytes) -> None:
        await self.broker.kick(self.broker.formatter.dumps(self.broker.formatter.loads(message=data)))
