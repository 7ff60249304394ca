"""One map: many calls, one future, one cursor that all workers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from .jobs import Pending, stripped

if TYPE_CHECKING:
    from .outbox import Outbox
    from .worker import Worker

T = TypeVar("T")


class Spread(Pending[list[T]]):
    """It stays in the queue, where workers join it, until its last item has begun."""

    __slots__ = ("_context", "_cursor", "_ended", "_function", "_priority", "_results", "_stopped", "size")
    shared = True
    size: int

    def begin(
        self, function: Callable[..., T], rows: list[tuple[Any, ...]], context: Context, priority: int
    ) -> Spread[T]:
        self._function: Callable[..., T] | None = function
        self._cursor: Iterator[tuple[int, tuple[Any, ...]]] = enumerate(rows)  # the lock of the interpreter guards it
        self._context, self._priority = context, priority
        self._results: list[Any] = [None] * len(rows)
        self._ended, self._stopped = 0, False
        self.size, self.crew = len(rows), None
        return self

    def work(self, worker: Worker) -> None:
        """Run items until there are none, or something of a better priority waits."""
        function, cursor, results = self._function, self._cursor, self._results
        copy, lanes, priority = self._context.copy, worker.crew.lanes, self._priority
        ended, error = 0, None
        try:
            if function is not None and not self.done():
                for index, row in cursor:
                    ended += 1
                    results[index] = copy().run(function, *row)
                    if self._stopped or lanes.best < priority:
                        break
                else:
                    worker.crew.withdraw(self, cancelled=False)
        except BaseException as raised:  # noqa: BLE001  # it is handed over
            error = stripped(raised)
        with worker.crew.lock:
            self._ended += ended
            last = self._ended == self.size and not self._stopped
        worker.ended(ended, failed=error is not None)
        if error is not None:
            self.fail(error, worker.outbox)
        elif last:
            worker.outbox.ready.append((self, results, None))

    def fail(self, error: BaseException, outbox: Outbox) -> None:
        """The first error is the map's; what has not begun then never does."""
        self._stopped = True
        crew = self.crew
        if crew is not None:
            crew.withdraw(self, cancelled=False)
        outbox.put(self, None, error)

    def leave(self) -> None:
        self._stopped = True
        super().leave()

    def forget(self) -> None:
        self._function, self._cursor = None, iter(())
