"""The gates of workers whose pool does not run in an event loop of Celery's."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from celery.concurrency.solo import TaskPool as Solo
from celery.exceptions import TaskRevokedError
from celery.worker import state

from .._core.commands import Heir, Reply
from .._runtime.events import StoreUnreachable
from .._runtime.slot import Slot
from ..errors import CachifyStoreError
from .gate import GRACE, LOOK, Gate, alive
from .loop_waker import LoopWaker
from .outcomes import leave, put_off
from .request import attempts, is_nudge, take_for_copy


class InlineGate(Gate):
    """For threads, solo and greenlets: asks where the task will run, before the task is accepted.

    There a request may wait in the pool's own queue; a slot taken before that would be hoarded.
    """

    def __init__(self, runtime: Any, worker: Any) -> None:
        super().__init__(runtime, worker)
        self._calls: deque[Callable[[], Any]] = deque()
        self._loop_waker = LoopWaker(self._hear)

    @property
    def _single(self) -> bool:
        """Solo without a loop: its only thread is in the broker's hands, and no other may run a task."""
        return self.worker.hub is None and issubclass(self.worker.pool_cls, Solo)

    @property
    def runs_heirs(self) -> bool:  # type: ignore[override]
        return not self._single

    @property
    def can_start_heirs(self) -> bool:
        return self.accepting and _running()

    def arrived(self, request: Any, cls: type, dispatch: Callable[[], Any]) -> Any:
        # Not `dispatch`: the class that Celery generates ignores the pool it is given.
        inherited: Any = super(cls, request)
        return inherited.execute_using_pool(_GatedPool(self.worker.pool, self, request))

    def named(self, pool: str, reply: Reply) -> None:
        if self._single:  # called by the broker, before this thread asks it for the next message
            super().named(pool, reply)
        elif reply.heirs:  # told in a thread or greenlet of the pool
            self.offer(pool, reply.heirs)

    def offer(self, pool: str, heirs: Sequence[Heir]) -> None:
        self._soon(partial(self.heirs.start, pool, heirs))

    def launch(self, request: Any) -> None:
        self.worker.process_task(request)  # where `_soon` has brought us

    def _soon(self, call: Callable[[], Any]) -> None:
        """In the worker's own thread, if it has a loop; else in one of its own, a greenlet where those are used: the
        caller may be a task that has just ended and still has its place in the pool.
        """
        if self.worker.hub is not None:
            self._calls.append(call)
            self._loop_waker.wake()
        else:
            threading.Thread(target=call, name="cachify-heir", daemon=True).start()

    def _hear(self) -> None:
        for _ in range(len(self._calls)):  # not what they add: the broker's turn comes in between
            self._calls.popleft()()

    def register(self, hub: Any) -> None:
        if hub is not None:
            self._loop_waker.register(hub)
        super().register(hub)

    def enter(self, request: Any) -> bool:
        """Is the request to run here and now?"""
        ask = self.prepare(request)
        if request.passed_on:
            leave(request)
            return False
        if ask is None:
            return True
        try:
            reply = self.runtime.store.execute(ask)
        except CachifyStoreError as error:
            reply = error
        return self.acted(request, ask, reply)

    def runs(self, request: Any) -> bool:
        return False  # it would run in this process, which is ending

    def try_later(self, request: Any) -> None:
        """Hand the message back to the broker with a delay; only if that fails too, wait here."""
        if request.ticket is not None or is_nudge(request):  # the store has it, and names it again
            if request.ticket is None:
                request.acknowledge()
            leave(request)
            return
        take_for_copy(request)  # an arrival whose answer was lost may have been parked, and may run elsewhere by now
        while True:
            pause = self.pause()
            try:
                put_off(request, pause, attempts(request), "the store is out of reach", visible=False)
            except Exception as error:  # noqa: BLE001  # the message is still ours
                self.runtime.emit(StoreUnreachable(doing="sending a task again", error=CachifyStoreError(repr(error))))
                if not _running():  # unacknowledged: the broker will deliver it to others
                    return
                time.sleep(pause)
            else:
                return


def _running() -> bool:
    signals: tuple[Any, ...] = (state.should_stop, state.should_terminate)  # an exit code, 0 included, once it is told
    return all(told is None or told is False for told in signals)


class BlockingGate(InlineGate):
    """For prefork where the worker has no event loop (brokers such as filesystem or SQL): asks before the request goes
    to the pool, which waits there until a process is free. Heirs go by the broker: only its own thread may wait so.
    """

    runs_heirs = False

    def arrived(self, request: Any, cls: type, dispatch: Callable[[], Any]) -> Any:
        if request.revoked():
            raise TaskRevokedError(request.id)
        if not self.enter(request):
            return None
        try:
            return dispatch()
        except TaskRevokedError:
            self.undo(request, requeue=False)
            raise

    def runs(self, request: Any) -> bool:
        return alive(request.worker_pid)

    def ended(self, request: Any, slot: Slot, *, requeue: bool) -> None:
        """After a hard time limit the process dies a moment later, by the thread that tells of the limit."""
        if request.time_limit_hit and alive(request.worker_pid):
            self._holding.discard(request)
            args = slot, request.worker_pid, requeue, time.monotonic() + GRACE
            threading.Thread(target=self._free_when_dead, args=args, name="cachify-dying", daemon=True).start()
        else:
            super().ended(request, slot, requeue=requeue)

    def _free_when_dead(self, slot: Slot, pid: int, requeue: bool, until: float) -> None:
        while alive(pid) and time.monotonic() < until:
            time.sleep(LOOK)
        self.free(slot, requeue=requeue)


class _GatedPool:
    """A worker pool whose next job asks for a slot when its turn has come."""

    def __init__(self, pool: Any, gate: InlineGate, request: Any) -> None:
        self._pool, self._gate, self._request = pool, gate, request

    def apply_async(
        self,
        target: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        *,
        accept_callback: Callable[[int, float], None],
        callback: Callable[[Any], None],
        **options: Any,
    ) -> Any:
        pids: list[int] = []
        refused = object()

        def accepted(pid: int, _: float) -> None:
            pids.append(pid)

        def run(*args: Any, **kwargs: Any) -> Any:
            if not self._gate.enter(self._request):
                return refused
            accept_callback(pids[0], time.monotonic())
            return target(*args, **kwargs)

        def done(result: Any) -> None:
            if result is not refused:
                callback(result)

        return self._pool.apply_async(run, args, kwargs, accept_callback=accepted, callback=done, **options)
