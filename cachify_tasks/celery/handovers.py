"""Parked tasks whose turn has come: run in this worker, without a way through the broker, or sent to their queue."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from celery.utils.imports import symbol_by_name
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.request import create_request_cls  # type: ignore[attr-defined]

from .._core.commands import Heir, Renew, Withdraw
from .._worker.requests import TOMB_MS
from .envelope import Envelope, opened
from .request import ATTEMPT, gate, nudged

logger = get_logger("cachify_tasks.celery")

CALLS: Final = 3  # of one task by one worker, before they become seldom
CALL_PAUSE: Final = 30.0  # seconds; it doubles, up to twenty times as much
CALLED: Final = 10_000  # tasks that are remembered


class Ticket:
    """Stands for a message that the store keeps: acknowledging a request means to take it out of the store there."""

    token = 0  # of the slot that is reserved for it
    starter = ""  # whom that one is bound to
    until = 0.0  # monotonic seconds: so long it surely is reserved

    def __init__(self, gate: Any, pool: str, holder: str, waited_ms: int = 0) -> None:
        self.gate, self.pool, self.holder, self.waited_ms = gate, pool, holder, waited_ms

    def bind(self, token: int, starter: str, until: float) -> None:
        self.token, self.starter, self.until = token, starter, until

    @property
    def assured(self) -> bool:
        """Does its slot wait for it, and can nobody else have started it?"""
        return bool(self.starter) and time.monotonic() < self.until

    def own(self, request: Any) -> None:
        """From now on the store's copy is the message of this request."""
        request.ticket = self

        def ack(*_: Any) -> None:
            self._done(request)

        def reject(_logger: Any, _errors: Any, requeue: bool = False) -> None:
            if not requeue:
                self._done(request)

        request._on_ack, request._on_reject = ack, reject

    def _done(self, request: Any) -> None:
        slot, runtime = request.slot, self.gate.runtime
        if slot is None:  # it does not run: revoked, expired, dropped, put off
            self.gate.tell(
                Withdraw(
                    pool=self.pool,
                    holder=self.holder,
                    start_ms=runtime.start_ms,
                    tomb_ms=TOMB_MS,
                    can_start_heirs=self.gate.can_start_heirs,
                )
            )
        elif not request.task.acks_late:  # it has started: with this worker it would be lost, as always
            self.gate.tell(
                Renew(pool=slot.key, holder=slot.holder, token=slot.token, lease_ms=slot.lease_ms, started=True)
            )
        # Else its run has ended, and what frees the slot takes the ticket too.


class Calls:
    """Whom this worker has called by the broker. Where nobody consumes the queue a task is offered again and again: its
    first calls are enough for whoever consumes it later, and more come seldom, for one that was lost.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[int, float]] = {}

    def due(self, holder: str) -> bool:
        """May this one be called? It counts as called, then."""
        count, due = self._made.pop(holder, (0, 0.0))
        now = time.monotonic()
        if now >= due:
            pause = min(CALL_PAUSE * 2.0 ** (count + 1 - CALLS), CALL_PAUSE * 20) if count + 1 >= CALLS else 0.0
            self._made[holder] = count + 1, now + pause
            if len(self._made) > CALLED:
                del self._made[next(iter(self._made))]
            return True
        self._made[holder] = count, due
        return False


class Heirs:
    """Starts the heirs that the store has named to this worker."""

    def __init__(self, gate: Any, worker: Any) -> None:
        self._gate, self._worker, self._app = gate, worker, worker.app
        self._classes: dict[tuple[str, int], type] = {}
        self._calls = Calls()
        self._waiting: dict[str, Any] = {}  # holder: its request, which has not come to its turn here

    def __len__(self) -> int:
        """How many wait here for their turn."""
        return len(self._waiting)

    def start(self, pool: str, heirs: Iterable[Heir], starter: str = "", until: float = 0.0) -> None:
        """Run them here, or send them where they can run. One that cannot be started is offered again by the store.

        bond: whom their slots are bound to. until: monotonic seconds; so long these surely are reserved.
        """
        for heir in heirs:
            try:
                known = self._waiting.get(heir.holder)
                if known is not None:  # its reservation had ended; when its turn comes it takes the new one
                    known.ticket.bind(heir.token, starter, until)
                    continue
                envelope = opened(heir.envelope)
                if self._at_home(envelope):
                    self._run(pool, heir, envelope, starter, until)
                elif self._calls.due(heir.holder):
                    self.send(pool, heir.holder, envelope, heir.waited_ms, starter)
            except Exception as error:  # noqa: BLE001  # its reservation ends, and another worker may do better
                logger.error("the parked task %s of pool %r could not be started: %r", heir.holder, pool, error)

    def _at_home(self, envelope: Envelope) -> bool:
        """Does this worker consume the task's queue, know the task, and go on working? More than it has places for it
        leaves to others.
        """
        consumer = self._worker.consumer
        if (
            not (self._gate.can_start_heirs and self._gate.runs_heirs)
            or consumer is None
            or envelope.task not in consumer.strategies
            or len(self._waiting) >= self._worker.pool.num_processes
        ):
            return False
        tasks = consumer.task_consumer
        return bool(tasks is not None and envelope.queue and tasks.consuming_from(envelope.queue))

    def _run(self, pool: str, heir: Heir, envelope: Envelope, starter: str, until: float) -> None:
        """As the worker's own strategy does with a message, less what has been done when it was parked: it was logged
        and told as received, and its eta has passed.
        """
        request = self.request(envelope, self._app.tasks[envelope.task], self._worker.consumer)
        ticket = Ticket(self._gate, pool, heir.holder, heir.waited_ms)
        ticket.bind(heir.token, starter, until)
        ticket.own(request)
        if not request.revoked():
            self._waiting[heir.holder] = request
            self._enlist(request)

    def _enlist(self, request: Any) -> None:
        consumer = self._worker.consumer
        bucket = None if consumer.disable_rate_limits else consumer.task_buckets[request.task.name]
        if bucket:
            consumer._limit_task(request, bucket, 1)
            return
        state.task_reserved(request)
        self._gate.launch(request)

    def request(self, envelope: Envelope, task: Any, consumer: Any) -> Any:
        """A request as the worker makes it of a message."""
        eventer = consumer.event_dispatcher
        made = self._classes.get((task.name, id(eventer)))
        if made is None:
            gate(task)  # it may have been parked before its pool was taken away
            base = symbol_by_name(task.Request)
            made = create_request_cls(base, task, consumer.pool, consumer.hostname, eventer, app=self._app)
            self._classes = {k: v for k, v in self._classes.items() if k[1] == id(eventer)}
            self._classes[task.name, id(eventer)] = made
        message = envelope.message(consumer.task_consumer.accept)
        return made(
            message, app=self._app, hostname=consumer.hostname, eventer=eventer, task=task,
            connection_errors=consumer.connection_errors, body=message.body, headers=message.headers, decoded=False,
            utc=self._app.uses_utc_timezone(),
        )  # fmt: skip

    def keep(self, requests: Iterable[Any]) -> None:
        """Their turn had come, and did not count."""
        for request in requests:
            if request.ticket is not None:
                request.queued = False
                self._waiting[request.ticket.holder] = request

    def begun(self, request: Any) -> None:
        """The turn of this request has come."""
        if request.ticket is not None:
            self._waiting.pop(request.ticket.holder, None)

    def reconnected(self) -> None:
        """With its connection a worker forgets what waits for a place in it; heirs do not depend on that one."""
        for request in list(self._waiting.values()):
            if not request.queued:
                self._enlist(request)

    def pass_on(self) -> None:
        """The worker is shutting down: heirs that it does not come to go back to the queue, for another one's reaper.
        They are not called by the broker: this worker may still be asking it for messages, and would lose the call.
        While the store is away their reservations end by themselves: a shutdown does not wait for each.
        """
        answers = True
        for holder, request in list(self._waiting.items()):
            request.passed_on = True  # first: a thread of the pool may just begin it
            if self._waiting.pop(holder, None) is not None and answers:
                answers = self._gate.give_back(request)

    def send(self, pool: str, holder: str, envelope: Envelope, waited_ms: int, starter: str = "") -> None:
        """Call a worker of its queue: the message itself stays in the store, and this one is a hint to start it.

        Raises:
            Exception: the broker did not take it.
        """
        exchange, routing_key = envelope.address
        mark = nudged(holder, envelope.headers.get(ATTEMPT), waited_ms, pool, starter)
        headers = {**envelope.headers, ATTEMPT: mark}
        with self._app.amqp.producer_pool.acquire(block=True) as producer:
            producer.publish(
                envelope.content, exchange=exchange, routing_key=routing_key, headers=headers,
                content_type=envelope.head["content_type"], content_encoding=envelope.head["content_encoding"],
                **envelope.head["properties"],
            )  # fmt: skip
