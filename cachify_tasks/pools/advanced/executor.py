"""The pool as a `concurrent.futures.Executor`, for code that takes one and for other threads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent import futures
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..errors import PoolShutDown
from .jobs import NO_CONTEXT, Abandoned, forgotten, outcome
from .stalls import waiting_for

if TYPE_CHECKING:
    from .completions import Completions
    from .scheduler import Scheduler, Worker

T = TypeVar("T")
P = ParamSpec("P")


class ExecutorJob(futures.Future[T]):
    """A call from any thread. The worker settles its future, without the event loop."""

    shared = False
    size = 1

    def __init__(
        self, scheduler: Scheduler, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__()
        self._home = scheduler
        self.scheduler: Scheduler | None = None
        self.context = copy_context()
        self.function: Callable[..., Any] = function
        self.args = args
        self.kwargs: dict[str, object] | None = kwargs

    def run(self, worker: Worker) -> None:
        if not self.set_running_or_notify_cancel():
            return
        value, error = outcome(self)
        worker.count(1, failed=error is not None)
        with contextlib.suppress(futures.InvalidStateError):  # the pool has shut down without it
            if error is None:
                self.set_result(value)
            else:
                self.set_exception(error)

    def result(self, timeout: float | None = None) -> T:
        """What the call returns.

        Raises:
            PoolError: a call of the same pool waits for it, and no worker is left that could run it.
        """
        if timeout is not None or self.scheduler is None:
            return super().result(timeout)
        with waiting_for(self, self.function, self._home):
            return super().result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raises. Raises itself what `result` raises instead of waiting."""
        if timeout is not None or self.scheduler is None:
            return super().exception(timeout)
        with waiting_for(self, self.function, self._home):
            return super().exception()

    def cancel(self) -> bool:
        if not super().cancel():
            return False
        if self._home.withdraw(self):  # no worker will notify those that wait for the future
            self.set_running_or_notify_cancel()
        return True

    def fail(self, error: BaseException, completions: Completions) -> None:
        if self.done():
            return
        if isinstance(error, Abandoned) and super().cancel():
            self.set_running_or_notify_cancel()
        else:
            self.set_exception(error)

    def forget(self) -> None:
        self.function = forgotten
        self.context = NO_CONTEXT
        self.args = ()
        self.kwargs = None


class PoolExecutor(futures.Executor):
    """The executor that `AdvancedPool.as_executor` returns.

    Its jobs are added and discarded by any thread, each in one step of the interpreter.
    """

    def __init__(self, pool: object, scheduler: Scheduler) -> None:
        self._pool = pool  # it must not be forgotten while its executor is in use
        self._scheduler = scheduler
        self._closed = False
        self._jobs: set[futures.Future[Any]] = set()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """Run a call in the pool; from any thread. It never blocks.

        Raises:
            PoolFull: the queue is full.
            PoolShutDown: the pool, or this executor, was shut down.
        """
        if self._closed:
            raise PoolShutDown("this executor of the pool was shut down")
        job = ExecutorJob(self._scheduler, fn, args, kwargs)
        self._scheduler.offer(job, 0)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls through this executor; the pool goes on.

        Args:
            wait: until the calls that came through it have ended. Blocks: do not use it in the event loop.
            cancel_futures: cancel those that have not begun.
        """
        self._closed = True
        jobs = list(self._jobs)
        if cancel_futures:
            for job in jobs:
                job.cancel()
        if wait:
            futures.wait(jobs)
