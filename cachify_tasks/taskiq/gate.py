"""`Gate`: the port of a Taskiq receiver. It asks for slots around the receiver's callback.

Around `callback`, not `run_task`: before any middleware's `pre_execute`, so that a dashboard does not see a parked task
as one that has run; and after all of its hooks, so that the slot is freed whichever of them raises.

Everything here belongs to the receiver's event loop, but `has_capacity`, `accepting` and `call_in_worker`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, assert_never

from taskiq.acks import AckableMessage
from taskiq.brokers.inmemory_broker import InMemoryBroker
from taskiq.exceptions import UnknownTaskError
from taskiq.result import TaskiqResult

from .._core.replies import Heir, Reply
from .._runtime.events import StoreUnreachable
from .._runtime.runtime import Runtime
from .._worker.attempt import hint_of
from .._worker.endings import Ending, Unknown, UnreadableError
from .._worker.held_slots import slot_of
from .._worker.outage import FIRST
from .._worker.outbox import Entry, Report
from .._worker.port import Delivery, HandOver, Later, Refusal, TaskRequest, next_header
from .._worker.reaper import Reaper
from .._worker.verdicts import (
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
from .._worker.worker import Worker
from ..errors import CachifyStoreError
from .admission import admitted
from .delivery import HandedOver, TaskFacts, TaskiqDelivery
from .envelope import KIND, LABEL, Envelope, attempt_of, opened, queue_of
from .executor import TrackingExecutor
from .postponed import PostponedMessages

if TYPE_CHECKING:
    from taskiq.receiver import Receiver

logger = logging.getLogger("cachify_tasks")

KEPT: Final = 1000  # deliveries that wait for the store, besides those that the receiver may have
ANSWERED_BY: Final = 0.5  # seconds that a callback waits for the answer to its release: the store may hang

Callback: TypeAlias = Callable[["bytes | AckableMessage"], Awaitable[None]]  # Taskiq's own


class Gate:
    """One per receiver and event loop.

    Attributes:
        core: decides, and keeps the state: see `_worker.worker`.
        receiver: Taskiq's.
        queue: names the queue that it reads.
    """

    kind: Final = KIND
    reserves_for_itself = True

    def __init__(self, runtime: Runtime, receiver: Receiver, facts_of: Callable[[str], TaskFacts]) -> None:
        self.runtime = runtime
        self.receiver = receiver
        self.broker = receiver.broker
        self.queue = queue_of(receiver.broker)
        self.finish: asyncio.Event | None = None  # set by Taskiq when the receiver is to end
        self.loop = asyncio.get_running_loop()
        self.core: Worker[Envelope] = Worker(runtime, self)
        self._facts_of = facts_of
        self._thread = threading.get_ident()
        self._heirs: deque[TaskiqDelivery] = deque()  # they wait for capacity
        self._ending = 0  # callbacks that wait for the answer to their release, and can run an heir then
        self._reports: set[asyncio.Future[Reply]] = set()  # commands that were sent, and are not answered
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pausing = 0  # deliveries that wait for the store
        self._closed = False
        if receiver.executor is not None and not isinstance(receiver.executor, TrackingExecutor):
            receiver.executor = TrackingExecutor(receiver.executor)
        self.postponed = PostponedMessages(runtime, self.broker, self.queue)
        self._spawn(self.postponed.send_due_ones())
        self.reaper = Reaper(runtime, self)
        self.reaper.start()

    # What this worker can do now

    @property
    def accepting(self) -> bool:
        return not self._closed and (self.finish is None or not self.finish.is_set())

    @property
    def has_capacity(self) -> bool:
        sem = self.receiver.sem
        return self.accepting and (sem is None or not sem.locked())

    def knows(self, message: Envelope) -> bool:
        return self.broker.find_task(message.message.task_name) is not None

    def can_run(self, message: Envelope, waiting: int) -> Refusal | Later | None:
        if not self.accepting:
            return Refusal.NOT_YET
        if message.queue != self.queue:
            return Refusal.NOT_MINE
        if not self.knows(message):
            return Refusal.UNKNOWN
        sem = self.receiver.sem
        if sem is not None and sem.locked() and waiting >= max(self._ending, 1):
            return Refusal.NO_CAPACITY
        return None

    def function_of(self, name: str) -> Callable[..., Any]:
        task = self.broker.find_task(name)
        assert task is not None, "it was found when the message came"
        return task.original_func

    # What the reaper asks

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

    def delivery_of(self, raw: bytes | AckableMessage) -> TaskiqDelivery | None:
        """The delivery of a message; None: it is none of ours, or Taskiq deals with it (it cannot be read)."""
        data = raw.data if isinstance(raw, AckableMessage) else raw
        try:
            message = self.broker.formatter.loads(message=data)
            message.parse_labels()
        except Exception:  # noqa: BLE001  # Taskiq meets it, too, and says so
            return None
        facts, header = self._facts_of(message.task_name), message.labels.get(LABEL)
        if facts.limit is None and hint_of(header) is None:
            return None
        return TaskiqDelivery(self, raw, message, facts, header)

    async def on_message(self, raw: bytes | AckableMessage, callback: Callback) -> None:
        """A message has arrived, and has capacity here: Taskiq's own `callback` runs its task, if it may run."""
        if isinstance(raw, HandedOver):
            await callback(raw)
            return
        delivery = self.delivery_of(raw)
        if delivery is None:
            await callback(raw)
        elif delivery.header.hint is not None and self.broker.find_task(delivery.task_name) is None:
            await delivery.acknowledge_to_broker()
            self.core.handovers.on_unknown_hint(delivery.header.hint, delivery.attempt.holder)
        else:
            await self._handle(delivery, callback)
        await self._run_heirs()

    async def _run_heirs(self) -> None:
        """Heirs go before messages that the broker has delivered: they get the capacity that is free now."""
        while self._heirs and self.accepting:
            await self._handle(self._heirs.popleft(), self.receiver.callback)

    async def _handle(self, delivery: TaskiqDelivery, callback: Callback) -> None:
        while True:
            await self._decide(delivery)
            if not isinstance(delivery.verdict, AskAgain):
                break
            if not self.accepting or delivery.state.stored is not None:
                return  # unacknowledged: the broker, or the store, delivers it again
            await self._pause(max(self.core.outage.left, FIRST))
            delivery.is_copy = True  # an arrival whose reply was lost may have been parked, and may run elsewhere
        await self._act(delivery, callback)

    async def _pause(self, seconds: float) -> None:
        """Until the store is worth another try; tasks without a pool go on meanwhile.

        So it gives back what a callback has taken, to a limit, and takes it again as Taskiq does, in the same order.
        """
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

    async def _decide(self, delivery: TaskiqDelivery) -> None:
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
        _taskiq(delivery).verdict = verdict  # `_act` does it: it awaits
        return True

    async def _act(self, delivery: TaskiqDelivery, callback: Callback) -> None:
        verdict = delivery.verdict
        match verdict:
            case Start() | StartWith() | StartWithoutSlot() | Fail():
                await self._run(delivery, callback)
            case Done() | Discard():
                await delivery.acknowledge()
            case Leave() | AskAgain():
                pass
            case Revoke(full) | Refuse(full):
                await self._save_error(delivery.attempt.task_id, full.as_error("the task was dropped"), delivery)
                await delivery.acknowledge()
            case SendLater(seconds, deferrals):
                await self._send_later(delivery, seconds, deferrals)
                await delivery.acknowledge()
            case _:
                assert_never(verdict)

    async def _run(self, delivery: TaskiqDelivery, callback: Callback) -> None:
        try:
            with admitted(delivery):
                await callback(delivery.for_taskiq())
        finally:
            self._on_callback_end(delivery)
        await self._released()

    def _on_callback_end(self, delivery: TaskiqDelivery) -> None:
        """Free the slot when the run ends: a thread outlives the time-out of its task."""
        work = delivery.work
        if work is None or work.done():
            self._free(delivery)
        else:
            work.add_done_callback(lambda _: self.call_in_worker(lambda: self._free(delivery)))

    def _free(self, delivery: TaskiqDelivery) -> None:
        self.core.on_run_end(delivery, requeue=not delivery.acked)

    async def _released(self) -> None:
        """Wait for what was just reported: its answer may name an heir, which runs here and now."""
        if self._reports and self.accepting:
            self._ending += 1
            try:
                await asyncio.wait(list(self._reports), timeout=ANSWERED_BY)
            finally:
                self._ending -= 1

    async def _save_error(self, task_id: str, error: Exception, delivery: TaskiqDelivery | None) -> None:
        labels = {} if delivery is None else delivery.message.labels
        result: TaskiqResult[Any] = TaskiqResult(
            is_err=True, log=None, return_value=None, execution_time=0, error=error, labels=labels
        )
        await self.broker.result_backend.set_result(task_id, result)

    async def _send_later(self, delivery: TaskiqDelivery, seconds: float, deferrals: int) -> None:
        message = self.broker.formatter.loads(message=delivery.data)
        delivery.is_copy = True  # it may be sent twice, by a worker that dies in between
        message.labels[LABEL] = next_header(delivery, deferrals)
        try:
            await self.postponed.add(message, seconds)
        except CachifyStoreError:  # then it waits here; a broker that can deliver it again has it meanwhile
            await asyncio.sleep(seconds)
            await self.broker.kick(self.broker.formatter.dumps(message))

    # Parked tasks

    def open(self, envelope: bytes) -> Envelope:
        return opened(envelope, self.broker)

    def take_over(self, delivery: Delivery) -> None:
        delivery = _taskiq(delivery)
        self._spawn(delivery.acknowledge_to_broker())
        delivery.acked = False

    def deliver(self, handover: HandOver[Envelope]) -> TaskiqDelivery:
        envelope = handover.message
        message = self.broker.formatter.loads(message=envelope.data)
        try:
            message.parse_labels()
        except Exception as error:
            raise UnreadableError(repr(error)) from error
        delivery = TaskiqDelivery(self, envelope.data, message, self._facts_of(message.task_name), envelope.header)
        delivery.state.stored = handover.stored()
        delivery.acked = False
        return delivery

    def end(self, task_id: str, message: Envelope | None, why: Ending, recorded: Callable[[], None]) -> None:
        name = "?" if message is None else message.message.task_name
        error = UnknownTaskError(task_name=name) if isinstance(why, Unknown) else TaskEndedError(str(why))

        async def end() -> None:
            await self._save_error(task_id, error, None)
            recorded()

        self._spawn(end())

    def is_revoked(self, delivery: Delivery) -> bool:
        return False  # Taskiq revokes nothing

    def run(self, delivery: Delivery) -> None:
        self._heirs.append(_taskiq(delivery))
        if len(self._heirs) > self._ending:
            task = self._spawn(self._run_heirs_when_free())
            if isinstance(self.broker, InMemoryBroker):  # its `wait_all` waits for them, too
                self.broker._running_tasks.add(task)
                task.add_done_callback(self.broker._running_tasks.discard)

    async def _run_heirs_when_free(self) -> None:
        if self.receiver.sem is None:
            await self._run_heirs()
        else:
            async with self.receiver.sem:
                await self._run_heirs()

    def hint(self, handover: HandOver[Envelope]) -> None:
        envelope = handover.message
        attempt, header = attempt_of(envelope.message, envelope.header)
        message = self.broker.formatter.loads(message=envelope.data)
        message.labels[LABEL] = replace(header, hint=handover.hint()).encode(attempt)
        if envelope.queue != self.queue:
            message.labels["queue_name"] = envelope.queue.partition(":")[2]
        self._spawn(self.broker.kick(self.broker.formatter.dumps(message)))

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

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_spawned_end)
        return task

    def _on_spawned_end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a step for a parked task failed: %r", error)

    # The end

    async def close(self) -> None:
        """The receiver has ended, or its program: give back what waits here, and wait for what runs."""
        self._closed = True
        self.reaper.stop()
        self.postponed.stop()
        self._heirs.clear()
        self.core.handovers.pass_on(self.core.give_back)
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=self.receiver.wait_tasks_timeout)
        if self._reports:
            await asyncio.wait(list(self._reports))
        self.core.resend()


class TaskEndedError(Exception):
    """The result of a parked task that ended without a run; its text says why."""


def _taskiq(delivery: Delivery) -> TaskiqDelivery:
    """The deliveries of this adapter are all of its own making."""
    assert isinstance(delivery, TaskiqDelivery)
    return delivery
