"""The gates that ask where the task runs, or by whichever thread hands it over: they wait for the store's answer."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from celery.bootsteps import RUN  # type: ignore[attr-defined]
from celery.concurrency.solo import TaskPool as Solo
from celery.exceptions import TaskRevokedError
from celery.worker import state

from .._core.commands import Look
from .._runtime.events import StoreUnreachable
from .._runtime.runtime import Runtime
from .._worker.held_slots import LOOK, is_alive
from .._worker.outage import FIRST, LONGEST
from ..errors import CachifyStoreError
from .gate import Gate
from .loop_waker import LoopWaker
from .outcomes import leave, send_later
from .request import CeleryDelivery

if TYPE_CHECKING:
    from .._worker.outbox import Report
    from .._worker.port import Delivery
    from .internals import Dispatch, Hub, Pool, Worker


class InlineGate(Gate):
    """For threads, solo and greenlets: asks in the task's own thread, before the task is accepted.

    There a request may wait in the pool's own queue; a slot that was taken before that would be hoarded.

    `_calls` is filled by any thread, and emptied by the worker's loop.
    """

    def __init__(self, runtime: Runtime, worker: Worker) -> None:
        super().__init__(runtime, worker)
        self._calls: deque[Callable[[], None]] = deque()
        self._waker = LoopWaker(self._make_calls)
        self._looking: SimpleQueue[tuple[CeleryDelivery, Look]] = SimpleQueue()
        self._looker: threading.Thread | None = None

    @property
    def _is_single_thread(self) -> bool:
        """Solo without a loop: its only thread is in the broker's hands, and no other may run a task."""
        return self.worker.hub is None and issubclass(self.worker.pool_cls, Solo)

    @property
    def can_run_heirs(self) -> bool:
        return not self._is_single_thread

    @property
    def accepting(self) -> bool:
        consumer = self.worker.consumer
        return consumer is not None and consumer.blueprint.state == RUN and not _is_stopping()

    @property
    def is_busy(self) -> bool:
        return len(state.reserved_requests) > self.size

    def look(self, delivery: CeleryDelivery, command: Look) -> None:
        """On a thread of its own, since the worker's must not wait for the store; but a greenlet may.

        It must, too: a worker of greenlets takes no further message while one waits for a greenlet.
        """
        if self.worker.pool.is_green:
            self._look(delivery, command)
            return
        self._looking.put((delivery, command))
        if self._looker is None:
            self._looker = threading.Thread(target=self._look_on, name="cachify-arrivals", daemon=True)
            self._looker.start()

    def _look_on(self) -> None:
        while True:
            self._look(*self._looking.get())

    def _look(self, delivery: CeleryDelivery, command: Look) -> None:
        if not self.store_down:
            with suppress(CachifyStoreError):  # it waits on, and asks at its turn
                self.core.arrivals.on_room(delivery, self.runtime.store.execute(command))

    def on_capacity(self, delivery: CeleryDelivery, cls: type, dispatch: Dispatch) -> object:
        # Not `dispatch`: the class that Celery generates ignores the pool it is given.
        inherited: Any = super(cls, delivery.request)
        return inherited.execute_using_pool(_AskingPool(self.worker.pool, self, delivery))

    def may_run(self, delivery: CeleryDelivery) -> bool:
        """Ask for its slot, wait for the answer, and act on it. Is it to run here and now?"""
        self.core.ask_now(delivery)
        return delivery.admitted

    def call_in_worker(self, call: Callable[[], None]) -> None:
        """Run on the worker's event loop if there is one, else on a new thread (a greenlet under gevent).

        Never inline: the caller may be a finished task that still occupies a worker of the pool. Only solo without a
        loop has nobody else: it hints, before its thread asks the broker for the next message.
        """
        if self._is_single_thread:
            call()
        elif self.worker.hub is not None:
            self._calls.append(call)
            self._waker.wake()
        else:
            threading.Thread(target=call, name="cachify-heir", daemon=True).start()

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        if self.worker.hub is not None:
            self.worker.hub.call_later(seconds, call)
            return
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()

    def _make_calls(self) -> None:
        for _ in range(len(self._calls)):  # not those that these add: the broker's turn comes in between
            self._calls.popleft()()

    def register(self, hub: Hub | None) -> None:
        if hub is not None:
            self._waker.register(hub)
        super().register(hub)

    def send(self, command: Report, *, at_once: bool) -> None:
        self.core.send_now(command)

    def is_running(self, delivery: Delivery) -> bool:
        return False  # it would run in this process, which is ending

    def ask_again(self, delivery: CeleryDelivery) -> None:
        """Give the message back to the broker with a delay; only if that fails, too, wait here."""
        stored = delivery.state.stored
        if stored is not None:  # the store has it, and names it again
            if stored.hinted:
                delivery.request.acknowledge()
            leave(delivery)
            return
        delivery.mark_as_copy()  # an arrival whose reply was lost may have been parked, and may run elsewhere by now
        pause = max(self.core.outage.left, FIRST)
        while True:
            try:
                send_later(delivery, pause, delivery.header.deferrals, "the store is out of reach", visible=False)
            except Exception as error:  # noqa: BLE001  # the message is still ours
                self.runtime.emit(StoreUnreachable(doing="sending a task again", error=CachifyStoreError(repr(error))))
                if _is_stopping():  # unacknowledged: the broker will deliver it to other workers
                    return
                time.sleep(pause)
                pause = min(2 * pause, LONGEST)
            else:
                return


class BlockingGate(InlineGate):
    """For prefork where the worker has no event loop (brokers such as filesystem or SQL).

    Asks before the request goes to the pool, which waits there until a process is free. Heirs start by hints: only the
    worker's own thread may wait like that.
    """

    can_run_heirs = False
    is_busy = False  # it asks for each message on its arrival

    def on_capacity(self, delivery: CeleryDelivery, cls: type, dispatch: Dispatch) -> object:
        if delivery.request.revoked():
            raise TaskRevokedError(delivery.request.id)
        if not self.may_run(delivery):
            return None
        try:
            return dispatch()
        except TaskRevokedError:
            self.core.slots.free(delivery, requeue=False)
            raise

    def is_running(self, delivery: Delivery) -> bool:
        return Gate.is_running(self, delivery)

    def on_run_end(self, delivery: CeleryDelivery, *, requeue: bool) -> None:
        """After a hard time limit the process dies a moment later, killed by the thread that reports the limit."""
        pid = delivery.request.worker_pid
        if delivery.time_limit_hit and pid is not None and is_alive(pid):
            self.core.slots.free_when_dead(delivery, pid, requeue=requeue)
            threading.Thread(target=self._free_dead, name="cachify-dying", daemon=True).start()
        else:
            super().on_run_end(delivery, requeue=requeue)

    def _free_dead(self) -> None:
        while self.core.slots.free_dead():
            time.sleep(LOOK)


def _is_stopping() -> bool:
    # An exit code, which may be 0, once the worker was told to stop.
    flags: tuple[object, ...] = (state.should_stop, state.should_terminate)
    return not all(flag is None or flag is False for flag in flags)


class _AskingPool:
    """A worker pool whose next job asks for a slot when its turn has come."""

    def __init__(self, pool: Pool, gate: InlineGate, delivery: CeleryDelivery) -> None:
        self._pool = pool
        self._gate = gate
        self._delivery = delivery

    def apply_async(
        self,
        target: Callable[..., object],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
        *,
        accept_callback: Callable[[int, float], None],
        callback: Callable[[object], None],
        **options: object,
    ) -> object:
        pids: list[int] = []
        refused = object()

        def accepted(pid: int, _: float) -> None:
            pids.append(pid)

        def run(*args: object, **kwargs: object) -> object:
            if not self._gate.may_run(self._delivery):
                return refused
            try:
                accept_callback(pids[0], time.monotonic())
                return target(*args, **kwargs)
            except BaseException:  # Celery itself failed: no callback will report the end
                self._gate.on_run_end(self._delivery, requeue=not self._delivery.request.acknowledged)
                raise

        def done(result: object) -> None:
            if result is not refused:
                callback(result)

        return self._pool.apply_async(run, args, kwargs, accept_callback=accepted, callback=done, **options)
