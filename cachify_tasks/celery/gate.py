"""A worker's gate: Celery's side of `WorkerPort`, common to all kinds of worker pools.

Where deliveries wait for the store's answer is in `prefork_gate` and `inline_gate`. What is decided about them is in
`_worker`; here it is done, in Celery's terms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, assert_never

from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.request import create_request_cls  # type: ignore[attr-defined]
from kombu.exceptions import ContentDisallowed, DecodeError

from .._core.commands import Look
from .._runtime.runtime import Runtime
from .._worker.ending_tasks import claim_revoked
from .._worker.endings import Ending, UnreadableError
from .._worker.held_slots import is_alive
from .._worker.port import HandOver, Later, Refusal
from .._worker.turns import PutAside
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
from .._worker.worker import Worker as Core
from .._worker.worker_host import WorkerHost
from .envelope import KIND, Envelope, opened
from .outcomes import acknowledge, end_unrun, fail, leave, revoke, send_later
from .publishing import send_hint
from .request import CeleryDelivery, gate_task, request_class

if TYPE_CHECKING:
    from .._worker.outbox import Report
    from .._worker.port import Delivery
    from .internals import Consumer, Dispatch, Hub, Request, Worker

logger = get_logger("cachify_tasks.celery")

LOOK_AGAIN: Final = 2.0  # seconds after which it is looked whether another worker has ended a revoked task


class Gate(WorkerHost, ABC):
    """One per worker; its pool carries it as `cachify_gate`, where requests find it.

    Attributes:
        core: decides, and keeps the state: see `_worker.worker`.
        worker: Celery's WorkController.
    """

    kind: Final = KIND
    reserves_for_itself = False

    def __init__(self, runtime: Runtime, worker: Worker) -> None:
        self.runtime = runtime
        self.worker = worker
        self.core: Core[Envelope] = Core(runtime, self)
        self._classes: dict[tuple[str, int], type[Any]] = {}  # of heirs' requests, by task and event dispatcher

    @property
    def consumer(self) -> Consumer:
        assert self.worker.consumer is not None, "messages come from a consumer"
        return self.worker.consumer

    # What this worker can do now

    @property
    @abstractmethod
    def accepting(self) -> bool:
        """Does the worker still take up tasks? Once its shutdown has begun, a command in a batch would not be sent."""

    @property
    def size(self) -> int:
        """How many tasks it can run at once; with autoscaling, when it has grown."""
        autoscaler = getattr(self.worker, "autoscaler", None)
        grown = 0 if autoscaler is None else autoscaler.max_concurrency
        return max(self.worker.pool.num_processes, grown)

    @property
    def has_capacity(self) -> bool:
        """Should the reaper start parked tasks on this worker?

        Not while every process is busy or the broker connection is down: the reserved slots would sit idle.
        """
        if not self.accepting or (self.worker.hub is not None and self.consumer.connection is None):
            return False
        return len(state.active_requests) < self.size

    @property
    def can_run_heirs(self) -> bool:
        """Can it start heirs itself, or only tell the worker that gets them from their queue?"""
        return True

    def knows(self, message: Envelope) -> bool:
        return message.task in self.worker.app.tasks

    def can_run(self, message: Envelope, waiting: int) -> Refusal | Later | None:
        consumer = self.worker.consumer
        if consumer is None or not self.accepting:
            return Refusal.NOT_YET
        tasks = consumer.task_consumer
        if tasks is None or not message.queue or not tasks.consuming_from(message.queue):
            return Refusal.NOT_MINE
        if message.task not in consumer.strategies:
            return Refusal.UNKNOWN
        if not self.can_run_heirs or waiting >= self.size:  # more than that are left to others
            return Refusal.NO_CAPACITY
        bucket = None if consumer.disable_rate_limits else consumer.task_buckets[message.task]
        wait = 0.0 if bucket is None else bucket.expected_time(len(bucket.contents) + 1)
        return Later(wait) if wait > 0 else None

    # Its life

    def register(self, hub: Hub | None) -> None:
        """The worker's event loop starts, if it has one: anew with each connection to the broker.

        With its connection a worker forgets what waits for capacity; heirs do not depend on the connection.
        """
        self.core.arrivals.forget()
        for delivery in self.core.handovers.waiting():
            assert isinstance(delivery, CeleryDelivery)
            if not delivery.in_pool_queue:
                self._enlist(delivery)

    def on_shutdown_begins(self) -> None:
        """The worker takes up no more tasks; Celery has not let go of any yet."""
        self.drain()

    def drain(self) -> None:  # only a gate with an event loop has something left to send
        """The worker is shutting down: send what there is, and wait for the answers."""

    def pass_on(self) -> None:
        """The worker is shutting down: give back heirs that have not started."""
        self.core.handovers.pass_on(self.core.give_back)

    def on_shutdown(self) -> None:
        """The worker has shut down: free the slots of what never began, or never reported its end."""
        self.core.release_all(self.is_running, lambda delivery: _celery(delivery).request.acknowledged)

    def is_running(self, delivery: Delivery) -> bool:
        """Does its process run? One that does, after a shutdown, keeps its slot for the rest of its lease."""
        return is_alive(_celery(delivery).request.worker_pid)

    # Deliveries

    def on_task_request(self, request: Request) -> None:
        """A message has arrived, or its time has come (ETA, rate limit): Celery's worker would take it up now."""
        delivery: CeleryDelivery | None = getattr(request, "cachify", None)
        if delivery is None or delivery.limit is None or not self.is_busy:
            self.worker.process_task(request)
            return
        look = self.core.arrivals.wait(delivery, can_fail_unrun=delivery.facts.can_fail_unrun)  # first: it may begin
        if look is not None:
            self.look(delivery, look)
            if delivery.state.refused:
                return
        self.worker.process_task(request)

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Does a message that arrives now have to wait for a process, or thread?"""

    @abstractmethod
    def look(self, delivery: CeleryDelivery, command: Look) -> None:
        """Send the command, and give the answer to `Arrivals.on_room`; before this returns, if the worker can wait."""

    @abstractmethod
    def on_capacity(self, delivery: CeleryDelivery, cls: type, dispatch: Dispatch) -> object:
        """There is capacity for this delivery: ask for its slot, and have it dispatched when it may run.

        Args:
            cls: the class that Celery generated for its task.
            dispatch: has Celery hand the request to the pool.
        """

    def on_run_end(self, delivery: CeleryDelivery, *, requeue: bool) -> None:
        """The run has ended. `requeue`: its message was not acknowledged and will be delivered again."""
        self.core.on_run_end(delivery, requeue=requeue)

    @abstractmethod
    def ask_again(self, delivery: CeleryDelivery) -> None:
        """The store is out of reach: keep the message and ask again later."""

    def apply(self, delivery: Delivery, verdict: Verdict) -> bool:
        delivery = _celery(delivery)
        delivery.admitted = False
        match verdict:
            case Start() | StartWith() | StartWithoutSlot() | Fail():
                delivery.admit(verdict)
            case Done("parked"):
                assert delivery.state.command is not None
                delivery.request.send_event("cachify-parked", pool=delivery.state.command.pool)
                acknowledge(delivery)
            case Done() | Discard():
                acknowledge(delivery)
            case Leave():
                leave(delivery)
            case Revoke(full):
                revoke(delivery, f"pool {full.key!r} is full")
            case Refuse(full):
                fail(delivery, full.as_error())
            case SendLater(seconds, deferrals, visible, full):
                why = "a copy is running" if full is None else f"pool {full.key!r} is full"
                return self.send_later(delivery, seconds, deferrals, why, visible=visible)
            case AskAgain():
                self.ask_again(delivery)
            case _:
                assert_never(verdict)
        return True

    def send_later(self, delivery: CeleryDelivery, seconds: float, deferrals: int, why: str, *, visible: bool) -> bool:
        """Send the attempt again after a delay. False: the broker refused, and the message is still ours."""
        try:
            send_later(delivery, seconds, deferrals, why, visible=visible)
        except Exception as error:  # noqa: BLE001  # whatever a broker raises
            request = delivery.request
            logger.error("%s[%s] could not be sent again: %r; trying later", request.name, request.id, error)
            return False
        return True

    def is_revoked(self, delivery: Delivery) -> bool:
        return _celery(delivery).request.revoked()

    # Parked tasks

    def open(self, envelope: bytes) -> Envelope:
        return opened(envelope)

    def take_over(self, delivery: Delivery) -> None:
        delivery = _celery(delivery)
        delivery.request.acknowledge()
        delivery.request.acknowledged = False
        self._own(delivery)

    def deliver(self, handover: HandOver[Envelope]) -> CeleryDelivery | None:
        """As the worker's own strategy makes a request of a message, less what was done when it was parked.

        It was logged and announced as received then, and its ETA has passed.
        """
        try:
            delivery = self.delivery_of(handover.message)
        except (DecodeError, ContentDisallowed, InvalidTaskError) as error:
            raise UnreadableError(repr(error)) from error
        delivery.state.stored = handover.stored()
        if handover.heir.ran:
            delivery.tell_redelivered()
        self._own(delivery)
        if handover.heir.token and delivery.attempt.task_id in state.revoked and not self._may_end(handover):
            return None
        return None if self.is_revoked(delivery) else delivery

    def _may_end(self, handover: HandOver[Envelope]) -> bool:
        """Of a revoked task whose turn has come; not if another worker announces its end, and is late."""
        heir = handover.heir
        if claim_revoked(self.runtime, heir.holder):
            return True
        why = PutAside(LOOK_AGAIN, "another worker is ending it as revoked")
        self.core.handovers.put_aside(handover.pool, heir.holder, heir.token, why)
        return False

    def end(self, task_id: str, message: Envelope | None, why: Ending, recorded: Callable[[], None]) -> None:
        context = None
        if message is not None and self.knows(message):  # then its chord and its errbacks learn it, too
            with suppress(DecodeError, ContentDisallowed, InvalidTaskError):
                context = self.delivery_of(message).request._context
        end_unrun(self.consumer, task_id, message, why, context)
        recorded()

    def delivery_of(self, envelope: Envelope) -> CeleryDelivery:
        """A request as the worker makes it of a message, and its delivery."""
        app, consumer = self.worker.app, self.consumer
        task: Any = app.tasks[envelope.task]
        key = task.name, id(consumer.event_dispatcher)
        made = self._classes.get(key)
        if made is None:
            gate_task(task)  # it may have been parked before its pool was taken away
            made = create_request_cls(
                request_class(task), task, consumer.pool, consumer.hostname, consumer.event_dispatcher, app=app
            )
            self._classes = {k: v for k, v in self._classes.items() if k[1] == key[1]}
            self._classes[key] = made
        assert consumer.task_consumer is not None
        message = envelope.message(consumer.task_consumer.accept)
        request = made(
            message, app=app, hostname=consumer.hostname, eventer=consumer.event_dispatcher, task=task,
            connection_errors=consumer.connection_errors, body=message.body, headers=envelope.request_headers,
            decoded=False,
            utc=app.uses_utc_timezone(),
        )  # fmt: skip
        delivery: CeleryDelivery = request.cachify
        delivery.gate = self
        return delivery

    def _own(self, delivery: CeleryDelivery) -> None:
        """From now on the store's copy is the message of this request: acknowledging it takes that copy away."""

        def ack(*_: object) -> None:
            self.core.on_acknowledged(delivery, early=not delivery.request.task.acks_late)

        def reject(_logger: object, _errors: object, requeue: bool = False) -> None:
            if not requeue:
                ack()

        delivery.request._on_ack = ack
        delivery.request._on_reject = reject

    def run(self, delivery: Delivery) -> None:
        self._enlist(_celery(delivery))

    def _enlist(self, delivery: CeleryDelivery) -> None:
        """Report the request to Celery as reserved by this worker, and have it start as its rate limit allows."""
        consumer, request = self.consumer, delivery.request
        bucket = None if consumer.disable_rate_limits else consumer.task_buckets[request.task.name]
        if bucket is not None:
            consumer._limit_task(request, bucket, 1)
            return
        state.task_reserved(request)
        for callback in consumer.on_task_message:  # among them the autoscaler, which may have no process yet
            callback(request)
        self.launch(delivery)

    def launch(self, delivery: CeleryDelivery) -> None:
        """Start an heir as soon as there is capacity for it, before messages the broker has delivered."""
        self.worker.process_task(delivery.request)

    def hint(self, handover: HandOver[Envelope]) -> None:
        send_hint(self.worker.app, handover.message, handover.hint())

    # Transport: in prefork_gate and inline_gate

    @abstractmethod
    def send(self, command: Report, *, at_once: bool) -> None: ...

    @abstractmethod
    def call_in_worker(self, call: Callable[[], None]) -> None: ...

    @abstractmethod
    def call_later(self, seconds: float, call: Callable[[], None]) -> None: ...


def _celery(delivery: Delivery) -> CeleryDelivery:
    """The deliveries of this adapter are all of its own making."""
    assert isinstance(delivery, CeleryDelivery)
    return delivery
