"""The gates of workers whose pool does not run in an event loop of Celery's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from celery.exceptions import TaskRevokedError
from celery.worker import state

from .._io.slot import Slot
from ..errors import CachifyStoreError
from .actions import put_off
from .gates import GRACE, LOOK, Gate, alive
from .request import attempts


class InlineGate(Gate):
    """For threads, solo and greenlets: asks where the task will run, before the task is accepted.

    There a request may wait in the pool's own queue; a slot taken before that would be hoarded.
    """

    def arrived(self, request: Any, cls: type, dispatch: Callable[[], Any]) -> Any:
        # Not `dispatch`: the class that Celery generates ignores the pool it is given.
        inherited: Any = super(cls, request)
        return inherited.execute_using_pool(_GatedPool(self.worker.pool, self, request))

    def enter(self, request: Any) -> bool:
        """Is the request to run here and now?"""
        ask = self.prepare(request)
        if ask is None:
            return True
        try:
            reply = self.engine.store.execute(ask)
        except CachifyStoreError as error:
            reply = error
        return self.acted(request, ask, reply)

    def runs(self, request: Any) -> bool:
        return False  # it would run in this process, which is ending

    def try_later(self, request: Any) -> None:
        """Hand the message back to the broker with a delay; only if that fails too, wait here."""
        while True:
            pause = self.pause()
            try:
                put_off(request, pause, attempts(request), "the store is out of reach", visible=False)
            except Exception as error:  # noqa: BLE001  # the message is still ours
                self.engine.unreachable(CachifyStoreError(repr(error)), "sending a task again")
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
    to the pool, which waits there until a process is free.
    """

    def arrived(self, request: Any, cls: type, dispatch: Callable[[], Any]) -> Any:
        if request.revoked():
            raise TaskRevokedError(request.id)
        if not self.enter(request):
            return None
        try:
            return dispatch()
        except TaskRevokedError:
            self.undo(request, again=False)
            raise

    def runs(self, request: Any) -> bool:
        return alive(request.worker_pid)

    def ended(self, request: Any, slot: Slot, *, again: bool) -> None:
        """After a hard time limit the process dies a moment later, by the thread that tells of the limit."""
        if request.time_limit_hit and alive(request.worker_pid):
            self._holding.discard(request)
            args = slot, request.worker_pid, again, time.monotonic() + GRACE
            threading.Thread(target=self._free_when_dead, args=args, name="cachify-dying", daemon=True).start()
        else:
            super().ended(request, slot, again=again)

    def _free_when_dead(self, slot: Slot, pid: int, again: bool, until: float) -> None:
        while alive(pid) and time.monotonic() < until:
            time.sleep(LOOK)
        self.free(slot, again=again)


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
