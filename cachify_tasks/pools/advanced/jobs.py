"""What waits in the queue: a call, or a map with all its calls. Each is also the future of its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import PoolShutDown

if TYPE_CHECKING:
    from .completions import Completions
    from .executor import ExecutorJob
    from .scheduler import Scheduler, Worker

T = TypeVar("T")


class Entry(Protocol):
    """What the queue holds and a worker runs.

    Attributes:
        scheduler: the scheduler in whose queue it waits; None: a worker has it, or it was withdrawn.
        shared: may several workers run it at once?
        size: how many workers it can keep busy.
    """

    scheduler: Scheduler | None

    @property
    def shared(self) -> bool: ...

    @property
    def size(self) -> int: ...

    def run(self, worker: Worker, /) -> None:
        """Run it in the worker's thread, unless it was cancelled, and deliver the outcome."""

    def fail(self, error: BaseException, completions: Completions, /) -> None:
        """It cannot be run, or not to its end; `Abandoned` cancels it where that is possible. From any thread."""

    def forget(self) -> None:
        """Release the function and its arguments."""


class PoolFuture(asyncio.Future[T]):
    """A future that workers settle by way of the completions."""

    __slots__ = ()

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Called in the event loop. A future that was cancelled in the meantime stays so."""
        if self.done():
            return
        if error is None:
            self.set_result(value)
        elif isinstance(error, Abandoned):
            self.cancel()
        elif isinstance(error, StopIteration):  # no future accepts it
            replacement = RuntimeError(f"the call raised {error!r}")
            replacement.__cause__ = error
            self.set_exception(replacement)
        else:
            self.set_exception(error)


class Abandoned(PoolShutDown):
    """The pool has shut down without the job."""


class Job(PoolFuture[T]):
    """A call and the future of its result, in one object: many of them may wait at once.

    The pool sets its attributes: an `__init__` written in Python would double the cost of making it.
    """

    __slots__ = ("args", "context", "function", "kwargs", "scheduler")
    shared = False
    size = 1
    args: tuple[object, ...]
    context: Context
    function: Callable[..., object]
    kwargs: dict[str, object] | None
    scheduler: Scheduler | None

    def run(self, worker: Worker) -> None:
        if not self.done():
            value, error = outcome(self)
            worker.count(1, failed=error is not None)
            worker.completions.ready.append((self, value, error))  # the worker notifies when it has its next job

    def cancel(self, msg: object | None = None) -> bool:
        """Cancel the future. A job that waits leaves the queue."""
        if not super().cancel(msg):
            return False
        self.leave_queue()
        return True

    def cancel_in_queue(self) -> bool:
        """Cancel the future if no worker has the job: whatever a running call returns is not lost."""
        scheduler = self.scheduler
        return scheduler is not None and scheduler.withdraw(self) and super().cancel()

    def expire_in(self, seconds: float) -> None:
        """Make it a TimeoutError after that time."""
        timer = self.get_loop().call_later(seconds, self._expire, seconds)
        self.add_done_callback(lambda _: timer.cancel())

    def _expire(self, seconds: float) -> None:
        if not self.done():
            self.set_exception(TimeoutError(f"the call has not ended within {seconds:g} s"))
            self.leave_queue()

    def leave_queue(self) -> None:
        scheduler = self.scheduler
        if scheduler is not None:
            scheduler.withdraw(self)

    def fail(self, error: BaseException, completions: Completions) -> None:
        completions.put(self, None, error)

    def forget(self) -> None:
        self.function = forgotten
        self.context = NO_CONTEXT
        self.args = ()
        self.kwargs = None


class MapJob(Job[list[T]]):
    """All calls of one map: one future, and one iterator over the arguments that all workers share.

    It stays in the queue, where workers join it, until its last item has begun. `_ended` is guarded by the scheduler's
    lock, `_rows` by the interpreter's. Each worker writes the results of its own items.
    """

    __slots__ = ("_ended", "_priority", "_results", "_rows", "_stopped", "size")
    shared = True
    size: int

    def __init__(
        self,
        function: Callable[..., T],
        rows: Sequence[tuple[object, ...]],
        context: Context,
        priority: int,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop=loop)
        self.scheduler = None
        self.function = function
        self.context = context
        self.size = len(rows)
        self._rows: Iterator[tuple[int, tuple[object, ...]]] = enumerate(rows)
        self._priority = priority
        self._results: list[object] = [None] * len(rows)
        self._ended = 0
        self._stopped = False

    def run(self, worker: Worker) -> None:
        """Run items until there are none left, or an entry of a better priority waits."""
        function, copy_context, results, priority = self.function, self.context.copy, self._results, self._priority
        scheduler, queue = worker.scheduler, worker.scheduler.queue
        ended = 0
        error = None
        try:
            if not self.done():
                for index, row in self._rows:
                    ended += 1
                    results[index] = copy_context().run(function, *row)
                    if self._stopped or queue.best < priority:
                        break
                else:
                    scheduler.withdraw(self, cancelled=False)
        except BaseException as raised:  # noqa: BLE001  # it is the outcome
            error = without_own_frame(raised)
        with scheduler.lock:
            self._ended += ended
            complete = self._ended == self.size and not self._stopped
        worker.count(ended, failed=error is not None)
        if error is not None:
            self.fail(error, worker.completions)
        elif complete:
            worker.completions.ready.append((self, results, None))

    def fail(self, error: BaseException, completions: Completions) -> None:
        """The first error is the map's. Items that have not begun are not run."""
        self._stopped = True
        scheduler = self.scheduler
        if scheduler is not None:
            scheduler.withdraw(self, cancelled=False)
        completions.put(self, None, error)

    def leave_queue(self) -> None:
        self._stopped = True
        super().leave_queue()

    def forget(self) -> None:
        self._rows = iter(())  # first: a worker that finds no function must find no rows either
        self.function = forgotten


NO_CONTEXT = Context()


def forgotten() -> None:
    """Takes the place of a function that was released."""


def outcome(job: Job[Any] | ExecutorJob[Any]) -> tuple[Any, BaseException | None]:
    """Make the call: what it returns, and what it raises, whatever that is."""
    context, function, args, kwargs = job.context, job.function, job.args, job.kwargs
    job.forget()
    try:
        if kwargs:
            return context.run(function, *args, **kwargs), None
        return context.run(function, *args), None
    except BaseException as error:  # noqa: BLE001  # it is the outcome
        return None, without_own_frame(error)


def without_own_frame(error: BaseException) -> BaseException:
    """Cut off the frame that caught the error: it refers to objects that the error would keep alive."""
    return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
