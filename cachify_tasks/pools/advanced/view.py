"""The pool as a `concurrent.futures.Executor`, for code that wants one and for other threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent import futures
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..errors import PoolShutDown
from .jobs import Dropped, outcome

if TYPE_CHECKING:
    from .crew import Crew
    from .outbox import Outbox
    from .worker import Worker

T = TypeVar("T")
P = ParamSpec("P")


class Call(futures.Future[T]):
    """A call from any thread: its future is settled by the worker, not by the loop."""

    shared = False
    size = 1

    def __init__(self, crew: Crew, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self._home = crew
        self.crew: Crew | None = None
        self.context: Any = copy_context()
        self.function: Any = function
        self.args: Any = args
        self.kwargs: Any = kwargs

    def work(self, worker: Worker) -> None:
        if not self.set_running_or_notify_cancel():
            return
        value, error = outcome(self)
        worker.ended(1, failed=error is not None)
        with contextlib.suppress(futures.InvalidStateError):  # the pool ended before the call did, and has said so
            if error is None:
                self.set_result(value)
            else:
                self.set_exception(error)

    def cancel(self) -> bool:
        if not super().cancel():
            return False
        if self._home.withdraw(self):  # no worker will come to tell those who wait for it
            self.set_running_or_notify_cancel()
        return True

    def fail(self, error: BaseException, _: Outbox) -> None:
        if isinstance(error, Dropped):
            self.drop(PoolShutDown("the pool was not shut down before it was forgotten"))
        elif not self.done():
            self.set_exception(error)

    def drop(self, reason: Exception) -> None:
        if self.done():
            return
        if super().cancel():
            self.set_running_or_notify_cancel()
        else:
            self.set_exception(reason)

    def forget(self) -> None:
        self.function = self.context = self.kwargs = None
        self.args = ()


class PoolExecutor(futures.Executor):
    """What `AdvancedPool.as_executor` gives."""

    def __init__(self, pool: object, crew: Crew) -> None:
        self._pool, self._crew = pool, crew  # the pool: it is kept as long as its view
        self._closed = False
        self._calls: set[Call[Any]] = set()
        self._lock = threading.Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """Run a call in the pool; from any thread. It never blocks.

        Raises:
            PoolFull: there is no place in the queue.
            PoolShutDown: the pool, or this view of it, was shut down.
        """
        if self._closed:
            raise PoolShutDown("this view of the pool was shut down")
        call = Call(self._crew, fn, args, kwargs)
        with self._lock:
            self._calls.add(call)
        call.add_done_callback(self._ended)
        try:
            self._crew.offer(call, 0)
        except BaseException:
            self._ended(call)
            raise
        return call

    def _ended(self, call: futures.Future[Any]) -> None:
        with self._lock:
            self._calls.discard(call)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more through this view; the pool goes on.

        Args:
            wait: until the calls that came through it have ended. Blocks: not in the event loop.
            cancel_futures: cancel those that have not begun.
        """
        self._closed = True
        with self._lock:
            calls = list(self._calls)
        for call in calls if cancel_futures else ():
            call.cancel()
        if wait:
            futures.wait(calls)
