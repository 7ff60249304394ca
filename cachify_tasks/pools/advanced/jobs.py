"""What is waited for: a call with its result, a place in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from .crew import Crew
    from .outbox import Outbox
    from .worker import Worker

T = TypeVar("T")


class Entry(Protocol):
    """What the queue keeps and a worker runs.

    Attributes:
        crew: in whose queue it is; None: in none, for a worker has it or it was withdrawn.
        shared: may several workers run it at once?
        size: how many could.
    """

    crew: Crew | None

    @property
    def shared(self) -> bool: ...

    @property
    def size(self) -> int: ...

    def work(self, worker: Worker, /) -> None:
        """Run it, on the worker's thread, unless it has been cancelled; tell who waits."""

    def fail(self, error: BaseException, outbox: Outbox, /) -> None:
        """It cannot be run, or not to its end; on any thread."""

    def drop(self, reason: Exception, /) -> None:
        """The pool ends without it; on the loop, or when the loop is closed."""

    def forget(self) -> None:
        """Let go of what it was to be called with."""


class Dropped(BaseException):
    """Stands in the outbox for a cancellation."""


class Awaited(asyncio.Future[T]):
    __slots__ = ()

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Called on the loop. Who has been cancelled in the meantime does not hear of it."""
        if self.done():
            return
        if error is None:
            self.set_result(value)
        elif isinstance(error, Dropped):
            self.cancel()
        elif isinstance(error, StopIteration):  # no future takes it
            unlike = RuntimeError(f"the call raised {error!r}")
            unlike.__cause__ = error
            self.set_exception(unlike)
        else:
            self.set_exception(error)


class Place(Awaited[None]):
    """Settled when there is a place in the queue: taken for the job that waited in line, or just told of."""

    __slots__ = ()


class Pending(Awaited[T]):
    """A future of something in the queue: it leaves the queue when it is cancelled or its time is up."""

    __slots__ = ("crew",)
    crew: Crew | None

    def cancel(self, msg: Any | None = None) -> bool:
        if not super().cancel(msg):
            return False
        self.leave()
        return True

    def expire(self, seconds: float) -> None:
        if not self.done():
            self.set_exception(TimeoutError(f"the call has not ended within {seconds:g} s"))
            self.leave()

    def leave(self) -> None:
        crew = self.crew
        if crew is not None:
            crew.withdraw(cast("Entry", self))

    def limit(self, seconds: float) -> None:
        """Let it be a TimeoutError in so many seconds."""
        timer = self.get_loop().call_later(seconds, self.expire, seconds)
        self.add_done_callback(lambda _: timer.cancel())

    def fail(self, error: BaseException, outbox: Outbox) -> None:
        outbox.put(self, None, error)

    def drop(self, reason: Exception) -> None:
        self.cancel()


class Job(Pending[T]):
    """One call and the future of its result, in one object: many of them wait at once."""

    __slots__ = ("args", "context", "function", "kwargs")
    shared = False
    size = 1
    context: Context | None
    function: Callable[..., T] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any] | None

    def work(self, worker: Worker) -> None:
        if not self.done():
            value, error = outcome(self)
            worker.ended(1, failed=error is not None)
            worker.outbox.ready.append((self, value, error))  # it rings when it has looked for the next one

    def forget(self) -> None:
        self.function = self.context = self.kwargs = None
        self.args = ()


def outcome(job: Any) -> tuple[Any, BaseException | None]:
    """What a call returns, and what it raises: whatever that is, it is of this call alone."""
    context, function, args, kwargs = job.context, job.function, job.args, job.kwargs
    job.forget()
    try:
        if kwargs:
            return context.run(function, *args, **kwargs), None
        return context.run(function, *args), None
    except BaseException as error:  # noqa: BLE001  # it is handed over
        return None, stripped(error)


def stripped(error: BaseException) -> BaseException:
    """Without the frame that caught it, which refers to what the error would keep alive."""
    return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
