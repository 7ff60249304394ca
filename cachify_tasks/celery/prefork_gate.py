"""The gate of prefork workers, in the worker's event loop: it batches, and it minds the semaphore.

A message goes through here in this order:

    on_capacity   a process is free for it: its command joins the batch of this loop iteration
    flush         reports of ended and started runs, then the batch, in one write; the loop goes on
    _on_replies   the answers: each delivery is dispatched to its process, or frees its capacity

billiard releases the worker's semaphore before it calls `on_success`. So the gate batches until the end of the loop
iteration, and sends releases before requests: a task that ended in this iteration has freed its slot by then.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from celery.bootsteps import RUN  # type: ignore[attr-defined]
from celery.exceptions import TaskRevokedError
from celery.utils.log import get_logger

from .._core.commands import Look
from .._core.replies import Reply, Room
from .._redis.hub_connection import HubConnection
from .._runtime.events import StoreUnreachable
from .._runtime.runtime import Runtime
from .._store.redis_store import RedisStore
from .._worker.held_slots import LOOK, is_alive, slot_of
from .._worker.outage import FIRST
from .._worker.outbox import Entry
from .._worker.port import TaskRequest
from .._worker.verdicts import Fail, Start
from ..errors import CachifyStoreError
from .accepted_jobs import await_accepted
from .gate import Gate
from .loop_waker import LoopWaker
from .process_queue import ProcessQueue
from .request import CeleryDelivery

if TYPE_CHECKING:
    from .._worker.outbox import Report
    from .._worker.port import Delivery
    from .._worker.verdicts import Verdict
    from .internals import Dispatch, Hub, Request, Timer, Worker

logger = get_logger("cachify_tasks.celery")

SOON: Final = 0.01  # seconds within which it is reported that an heir has started
KEPT: Final = 1000  # deliveries that are kept above the prefetch count while the store is out of reach
CHECK_EVERY: Final = 0.5  # seconds between two looks at replies that are overdue and reports that failed


class _Asked(NamedTuple):
    """A delivery whose command is in the batch, or on its way to the store."""

    delivery: CeleryDelivery
    command: TaskRequest
    dispatch: Dispatch


class PreforkGate(Gate):
    """See the module. Everything here belongs to the worker's main thread, but `_calls`, which any thread adds to."""

    reserves_for_itself = True

    def __init__(self, runtime: Runtime, worker: Worker, connection: HubConnection | None = None) -> None:
        super().__init__(runtime, worker)
        self._thread = threading.get_ident()
        self._asked: deque[_Asked] = deque()  # the batch of this loop iteration
        self._looking: list[tuple[CeleryDelivery, Look]] = []  # in the batch, too: arrived, and every process is busy
        self._calls: deque[Callable[[], None]] = deque()
        self._kept = 0  # deliveries that wait for the store and do not count as prefetched
        self._loop_starts = 0  # each start of the loop is a new connection to the broker
        self._flush_scheduled = False
        self._flush_soon = False  # a timer will flush: an heir has started without asking
        self._urgent = False  # a report must not wait for another event
        self._queue = ProcessQueue(worker)
        self._waker = LoopWaker(self._make_calls)
        if connection is None:
            assert isinstance(runtime.store, RedisStore), "`InstallGate` refuses memory for a worker of processes"
            connection = HubConnection(runtime.store, self._watch, self._unwatch)
        self._connection = connection
        self._checks: Timer | None = None

    @property
    def hub(self) -> Hub:
        assert self.worker.hub is not None, "a prefork worker without an event loop has another gate"
        return self.worker.hub

    @property
    def accepting(self) -> bool:
        consumer = self.worker.consumer
        return consumer is not None and consumer.blueprint.state == RUN

    # Deliveries

    def on_task_request(self, request: Request) -> None:
        semaphore = self.worker.semaphore
        if semaphore is not None and semaphore.value > 0:  # the usual course, without a detour
            self.worker.process_task(request)
        else:
            super().on_task_request(request)

    @property
    def is_busy(self) -> bool:
        return self._queue.is_busy

    def look(self, delivery: CeleryDelivery, command: Look) -> None:
        self._looking.append((delivery, command))
        self._schedule_flush()

    def _on_rooms(self, looking: list[tuple[CeleryDelivery, Look]], rooms: list[Room] | CachifyStoreError) -> None:
        """Those for which there is no answer wait on, and ask at their turn."""
        for (delivery, _), room in zip(looking, () if isinstance(rooms, CachifyStoreError) else rooms, strict=False):
            if isinstance(room, Room):
                self.core.arrivals.on_room(delivery, room)
                if delivery.state.refused:
                    self._queue.remove(delivery.request)

    def on_capacity(self, delivery: CeleryDelivery, cls: type, dispatch: Dispatch) -> None:
        if delivery.request.revoked():
            raise TaskRevokedError(delivery.request.id)
        command = self.core.request(delivery)
        if command is None:
            dispatch()
        elif isinstance(command, Fail):
            delivery.admit(command)
            dispatch()
        elif self.core.begin_reserved(delivery, command):
            # Not flushed now, so that the child gets the processor first. The report goes out with what is sent next,
            # most often that the task was acknowledged.
            if not self._flush_soon:
                self._flush_soon = True
                self.hub.call_later(SOON, self._schedule_flush)
            delivery.admit(Start(0))
            self._dispatch(delivery, dispatch)
        else:
            asked = _Asked(delivery, command, dispatch)
            if self.core.outage.failing and not self.core.outage.may_ask():
                self._on_reply(asked, CachifyStoreError("the store is out of reach"))
            else:
                self._asked.append(asked)
                self._schedule_flush()

    def apply(self, delivery: Delivery, verdict: Verdict) -> bool:
        if isinstance(verdict, Start) and isinstance(delivery, CeleryDelivery):  # the usual one, without a detour
            delivery.admit(verdict)
            return True
        return super().apply(delivery, verdict)

    def _on_reply(self, asked: _Asked, reply: Reply | CachifyStoreError) -> None:
        delivery = asked.delivery
        self.core.on_reply(delivery, asked.command, reply)
        if delivery.admitted:
            self._dispatch(delivery, asked.dispatch)
        else:
            self._free_capacity()

    def _dispatch(self, delivery: CeleryDelivery, dispatch: Dispatch) -> None:
        try:
            dispatch()
        except TaskRevokedError:
            self.core.slots.free(delivery, requeue=False)
            self._free_capacity()

    def _free_capacity(self) -> None:
        """Release the semaphore in the next iteration: done here, a thousand refusals in a row would nest too deep."""
        self.hub.call_soon(self._queue.free)

    def ask_again(self, delivery: CeleryDelivery) -> None:
        """Meanwhile it does not count as prefetched, so that tasks without a pool go on; of many, the rest does."""
        if self.accepting:
            delay = max(self.core.outage.left, FIRST)
            extra = self._kept < KEPT
            if extra:
                self._kept += 1
                self.consumer.qos.increment_eventually()
            self.hub.call_later(delay, self._process_again, delivery, self._loop_starts, extra)

    def _process_again(self, delivery: CeleryDelivery, loop_starts: int, extra: bool) -> None:
        if self.accepting and loop_starts == self._loop_starts:
            if extra:
                self._kept -= 1
                self.consumer.qos.decrement_eventually()
            self.on_task_request(delivery.request)

    # Heirs

    def launch(self, delivery: CeleryDelivery) -> None:
        self._queue.launch(delivery.request, len(self.core.handovers))

    def call_in_worker(self, call: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread:
            call()
        else:
            self._calls.append(call)
            self._waker.wake()

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.hub.call_later(seconds, call)

    def _make_calls(self) -> None:
        while self._calls:
            self._calls.popleft()()

    # Ends

    def on_run_end(self, delivery: CeleryDelivery, *, requeue: bool) -> None:
        """After a hard time limit the process dies a moment later: only then is its slot free."""
        pid = delivery.request.worker_pid
        if delivery.time_limit_hit and pid is not None and is_alive(pid):
            self.core.slots.free_when_dead(delivery, pid, requeue=requeue)
            self._free_dead()
        else:
            super().on_run_end(delivery, requeue=requeue)

    def _free_dead(self) -> None:
        if self.core.slots.free_dead(wait=self.accepting):
            self.hub.call_later(LOOK, self._free_dead)

    def send(self, command: Report, *, at_once: bool) -> None:
        self.core.outbox.add(command)
        if self.accepting and not at_once:
            self._urgent = True
            self._schedule_flush()
        else:
            self.drain()

    def resend(self) -> None:
        """Only during a shutdown, when the loop stands still: else the loop sends them."""
        if not self.accepting:
            super().resend()

    # The batch

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled and (self._asked or self._looking or self.core.outbox.entries):
            self._flush_scheduled = True
            self.hub.call_soon(self.flush)

    def flush(self) -> None:
        """Send reports of ended and started runs, then requests; the loop goes on until the answers come.

        While the store is out of reach nothing is sent: the loop, or a shutdown, would stand still while it connects.
        """
        self._flush_scheduled = self._flush_soon = self._urgent = False
        if not self.accepting:  # unacknowledged: the broker will deliver them to other workers
            self._forget_asked()
        asked, self._asked = self._asked, deque()
        outage, outbox = self.core.outage, self.core.outbox
        if outage.failing and outage.is_on:
            self._looking.clear()
            for one in asked:
                self._on_reply(one, CachifyStoreError("the store is out of reach"))
            return
        reports = outbox.take() if outbox.entries else []
        commands = [entry.command for entry in reports] + [one.command for one in asked]
        if commands:
            self._connection.send(commands, partial(self._on_replies, reports, asked, self._loop_starts))
        looking, self._looking = self._looking, []
        if looking and self.accepting:
            self._connection.send([command for _, command in looking], partial(self._on_rooms, looking))

    def _forget_asked(self) -> None:
        """These will not be asked for: heirs wait for capacity again, other messages come again from the broker."""
        asked, self._asked = self._asked, deque()
        for one in asked:
            one.delivery.in_pool_queue = False
        self.core.handovers.wait_again(one.delivery for one in asked)

    def drain(self) -> None:
        """Send what there is and wait for every answer."""
        self.flush()
        self._connection.drain()

    def _on_replies(
        self, reports: list[Entry], asked: deque[_Asked], loop_starts: int, replies: list[object] | CachifyStoreError
    ) -> None:
        if isinstance(replies, CachifyStoreError):
            self.core.outage.begin()
            replies = [replies] * (len(reports) + len(asked))
        if reports:
            self._on_report_replies(reports, replies)
        for one, reply in zip(asked, replies[len(reports) :], strict=True):
            assert isinstance(reply, Reply | CachifyStoreError)
            if loop_starts == self._loop_starts and self.accepting:
                self._on_reply(one, reply)
            elif isinstance(reply, Reply) and reply.status == "granted":  # its message comes again, perhaps elsewhere
                slot = slot_of(self.runtime, one.command, reply.token)
                self.send(slot.release_command(requeue=True), at_once=True)
        if self._asked and self.accepting:  # heirs, whose slots are idle until they start
            self.flush()

    def _on_report_replies(self, reports: list[Entry], replies: list[object]) -> None:
        failed = []
        for entry, reply in zip(reports, replies, strict=False):
            if isinstance(reply, CachifyStoreError):
                self.runtime.emit(StoreUnreachable(doing="releasing slots", error=reply))
                failed.append(entry)
            else:
                assert isinstance(reply, Reply)
                self.core.on_report_reply(entry.command, reply, entry.since)
        self.core.outbox.put_back(failed)

    # The loop

    def register(self, hub: Hub | None) -> None:
        """At every start of the loop. A reset of the hub forgets its readers, and a lost connection its timers.

        Requests of the lost connection cannot be acknowledged any more, and come again.
        """
        assert hub is not None
        self._thread = threading.get_ident()
        self._waker.register(hub)
        self._connection.watch_again()
        if self._checks is not None:
            self._checks.cancel()
        self._checks = hub.call_repeatedly(CHECK_EVERY, self._check)
        hub.on_tick.add(self._on_tick)
        self._loop_starts += 1
        self._kept = 0  # so is the prefetch count
        self._flush_scheduled = self._flush_soon = False
        self._abandon_dropped_jobs()
        self._forget_asked()
        super().register(hub)
        self._schedule_flush()
        self._free_dead()

    def _abandon_dropped_jobs(self) -> None:
        """When the broker connection is lost, Celery drops jobs that no child has accepted yet.

        No callback will report their end. Such a job may still run; so its slot is kept, but renewed no more. Its
        redelivered message can run once the lease has expired.
        """
        jobs = self.worker.pool._pool._cache
        for delivery in self.core.slots.holding():
            assert isinstance(delivery, CeleryDelivery)
            request = delivery.request
            job = request._apply_result and request._apply_result()
            if (job is None or job._job not in jobs) and self.core.slots.abandon(delivery) is not None:
                logger.warning("%s[%s] was let go with its connection", request.name, request.id)

    def _on_tick(self) -> None:
        """Before the loop sleeps: what a timer has added in this iteration must not wait for the next event."""
        if self._asked or self._looking or self._urgent:
            self._flush_scheduled = False
            self._schedule_flush()
            self._waker.wake()

    def _check(self) -> None:
        """The processes, too: Celery looks when one closes its files, often before it has ended, and then each 5 s.

        Until then nothing runs in its place, and with `max_tasks_per_child` that is all the time.
        """
        self.worker.pool._pool.maintain_pool()
        self._connection.check_overdue()
        if self.core.outbox.entries:
            self.flush()

    def _watch(self, fd: int) -> None:
        self.hub.add_reader(fd, self._connection.readable)

    def _unwatch(self, fd: int) -> None:
        self.hub.remove_reader(fd)

    def on_shutdown_begins(self) -> None:
        await_accepted(self.hub, self.worker.pool._pool)
        super().on_shutdown_begins()

    def on_shutdown(self) -> None:
        self.core.slots.free_dead(wait=False)  # the loop will not
        super().on_shutdown()
        self.resume()
        self.drain()  # once more what the store did not confirm: nobody sends it later
