"""The connections of a pool: made, lent, checked, cleaned, handed over, retired.

All of it happens in one event loop, between two awaits, so there is no lock. What takes time (the factory, the
healthchecker, the cleaner) runs in tasks of the pool, never in the caller's: a caller who is cancelled breaks nothing.

A connection counts against `maxsize` from before it is made until it has been cleaned. (One whose function does not
answer in time, nor to its cancellation, no longer counts; it is cleaned when the function ends.) Whatever frees
something ends in `serve`, which makes sure that a connection is expected for each acquire that waits, as far as
`maxsize` allows.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final, TypeVar

from ..errors import PoolError, PoolShutDown
from .options import Options
from .pool_tasks import PoolTasks, Work, logger
from .records import NO_ARGUMENTS, Arguments, Counts, Record
from .timed_call import Running
from .waiters import Waiter, Waiters

T = TypeVar("T")

LONGEST: Final = 60.0  # seconds between two attempts to make a connection that nobody waits for


class Connections(PoolTasks[T]):
    """Everything belongs to the pool's event loop.

    Attributes:
        on_limits: called when the limits, or how many connections there are, may have changed.
        idle, lent: those that may be lent, and those that are; the same objects for the pool's life.
        retiring: lent, and to be retired when they come back.
        making, checking, cleaning: how often the factory, the healthchecker, the cleaner run now.
        planned: arguments for the connections that `minsize` asks for.
    """

    def __init__(self, options: Options, minsize: int, maxsize: int, *, lifo: bool) -> None:
        super().__init__(options)
        self.minsize = minsize
        self.maxsize = maxsize
        self.now = monotonic
        self.is_open = False
        self.starting = False
        self.idle: deque[Record[T]] = deque()
        self.take: Callable[[], Record[T]] = self.idle.pop if lifo else self.idle.popleft
        self.lent: dict[int, Record[T]] = {}
        self.retiring: dict[int, Record[T]] = {}
        self.waiters: Waiters[T] = Waiters()
        self.planned: deque[Arguments] = deque()
        self.making = self.checking = self.cleaning = 0
        self.counts = Counts()
        self.on_limits: Callable[[], None] = lambda: None
        self._being_served: set[asyncio.Future[Record[T]]] = set()  # a connection is being made with their arguments
        self._serving = False
        self._failures = 0  # in a row
        self._backoff: asyncio.TimerHandle | None = None  # until minsize is seen to again
        self._expiry: asyncio.TimerHandle | None = None
        self._change: asyncio.Future[None] | None = None

    @property
    def total(self) -> int:
        """How many count against `maxsize`."""
        return len(self.records) + self.making

    @property
    def in_use(self) -> int:
        return len(self.lent) + len(self.retiring)

    # Making what is missing

    def serve(self) -> None:
        """Start what is missing. A call from within itself is left to the outer one."""
        if self._serving:
            return
        self._serving = True
        try:
            while self.is_open and self._start_one():
                pass
        finally:
            self._serving = False

    def _start_one(self) -> bool:
        # While one lies idle, nobody waits until another one has been made, or has been checked after its use.
        if self.idle and self.waiters.live > len(self.previewed) and self.options.healthchecker is not None:
            record = self.take()
            self.previewed.add(record)
            self.check(record)
            return True
        if self.waiters.live > len(self.expected) and self.total < self.maxsize:
            entry = self._first_unserved()
            if entry is not None:
                self.make(entry[1], entry[0])
                return True
        if self.total < self.minsize and self._backoff is None and not self.starting:
            self.make(self.planned.popleft() if self.planned else NO_ARGUMENTS)
            return True
        return False

    def _first_unserved(self) -> Waiter[T] | None:
        """The first that waits and for which no connection is being made."""
        for entry in self.waiters.queue:
            if not entry[0].done() and entry[0] not in self._being_served:
                return entry
        return None

    def make(self, arguments: Arguments, waiter: asyncio.Future[Record[T]] | None = None) -> Work:
        """Make a connection. Its errors are the waiter's; without one the pool tries again later."""
        self.making += 1
        if waiter is not None:
            self._being_served.add(waiter)
        expected = object()
        self.expected.add(expected)
        return self.spawn(self._run_factory(arguments, waiter, expected))

    async def _run_factory(
        self, arguments: Arguments, waiter: asyncio.Future[Record[T]] | None, expected: object
    ) -> BaseException | None:
        record: Record[T] | None = None
        failure: BaseException = PoolError("the factory was cancelled")
        try:
            call = partial(self.functions.call, self.options.factory, *arguments.args, **arguments.kwargs)
            record = self._register(await self.call_factory(call, expected), arguments)
        except asyncio.CancelledError as error:  # must not reach a waiter that nobody has cancelled
            failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001  # it is the waiter's
            failure = error
        self.making -= 1
        self.unexpect(expected)
        if waiter is not None:
            self._being_served.discard(waiter)
        if record is not None:
            self.reset_backoff()
            self.counts.made += 1
            await self._settle(record)
        else:
            self.counts.failed += 1
            if waiter is None:
                self._retry_later(arguments, failure)
            elif not waiter.done():
                waiter.set_exception(failure)
                self.waiters.on_done()
            self.on_limits()
        self.serve()
        self.notify_change()
        return None if record is not None else failure

    def _register(self, conn: T, arguments: Arguments) -> Record[T]:
        if id(conn) in self.records:
            raise PoolError(
                f"the factory gave a {type(conn).__name__} that this pool has already; it must make a new one"
            )
        now = self.now()
        ends = now + self.options.maxlife * (1 - self.options.jitter * random.random())
        record = Record(conn, arguments, now, ends)
        self.records[record.key] = record
        self.schedule_expiry()
        return record

    def _retry_later(self, arguments: Arguments, failure: BaseException) -> None:
        """A connection that nobody waits for was not made: again, after a pause that doubles with each failure."""
        if not self.is_open or self.starting:
            return
        self.planned.append(arguments)
        if self._backoff is None:
            assert self.loop is not None
            delay = min(self.options.backoff * 2 ** min(self._failures, 16), LONGEST) * random.uniform(0.5, 1)
            self._failures += 1
            self._backoff = self.loop.call_later(delay, self._end_backoff)
            logger.warning("no connection could be made, trying again in %s s: %r", round(delay, 3), failure)

    def _end_backoff(self) -> None:
        self._backoff = None
        self.serve()

    def reset_backoff(self) -> None:
        self._failures = 0
        if self._backoff is not None:
            self._backoff.cancel()
            self._backoff = None

    # Lending

    def is_usable(self, record: Record[T]) -> bool:
        return record.usable and self.is_open and self.total <= self.maxsize

    def offer(self, record: Record[T]) -> None:
        """Give it to the first acquire that waits; if none does, it lies idle."""
        if self.is_usable(record):
            self.hand_over(record)
        else:
            self.retire(record)

    def hand_over(self, record: Record[T]) -> None:
        queue = self.waiters.queue
        while queue:
            waiter, _, _ = queue.popleft()
            if waiter.done():
                self.waiters.on_passed_over()
                continue
            record.lends += 1
            self.lent[record.key] = record
            waiter.set_result(record)
            return
        self.idle.append(record)

    def take_back(self, record: Record[T], last: Arguments) -> Work | None:
        """A lent connection has come back. Returns the task that looks after it, if one has to."""
        if not self.is_usable(record):
            return self.retire(record, last)
        if self.options.healthchecker is not None:
            return self.check(record, last)
        self.offer(record)
        return None

    async def _settle(self, record: Record[T], last: Arguments = NO_ARGUMENTS) -> None:
        """What one of our tasks has made or checked is offered, or cleaned within that task."""
        if self.is_usable(record):
            self.offer(record)
        else:
            self.cleaning += 1
            self.serve()  # the acquire that counted on it needs another one
            await self._run_cleaner(record, last)

    # Checking

    def check(self, record: Record[T], last: Arguments = NO_ARGUMENTS) -> Work:
        self.checking += 1
        self.expected.add(record)
        return self.spawn(self._run_healthchecker(record, last))

    async def _run_healthchecker(self, record: Record[T], last: Arguments) -> None:
        healthy, overrun = False, False

        def on_overrun(running: Running) -> None:
            nonlocal overrun
            overrun = True
            running.add_done_callback(lambda _: self.clean_later(record.conn))  # until then the check uses it

        try:
            healthy = await self.call_healthchecker(record, on_overrun)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001  # nobody waits for it
            logger.warning("the healthchecker failed, its connection is given up: %r", error)
        self.checking -= 1
        self.unexpect(record)
        record.checked_at = self.now()
        if not healthy:
            record.usable = False
            self.counts.sick += 1
        if overrun:
            self._forget(record, last)
        else:
            await self._settle(record, last)
        self.serve()
        self.notify_change()

    # Retiring

    def retire(self, record: Record[T], last: Arguments = NO_ARGUMENTS) -> Work | None:
        """Give a connection up. It counts until it has been cleaned."""
        record.usable = False
        if self.options.cleaner is None:
            self._forget(record, last)
            return None
        self.cleaning += 1
        return self.spawn(self._run_cleaner(record, last))

    def retire_on_return(self, record: Record[T]) -> Work | None:
        """It is not lent again: retired now if it is idle, else when it comes back."""
        record.usable = False
        if self.lent.pop(record.key, None) is not None:
            self.retiring[record.key] = record
        elif record in self.idle:
            self.idle.remove(record)
            return self.retire(record)
        return None

    async def _run_cleaner(self, record: Record[T], last: Arguments) -> None:
        await self.clean(record.conn, last)
        self.cleaning -= 1
        self._forget(record, last)

    def _forget(self, record: Record[T], last: Arguments) -> None:
        """Another may be made: with the releaser's arguments for an acquire that waits, with its own for `minsize`."""
        del self.records[record.key]
        self.counts.retired += 1
        self.counts.lends += record.lends
        if self.is_open and self.total < self.maxsize:
            entry = (
                self._first_unserved() if last is not NO_ARGUMENTS and self.waiters.live > len(self.expected) else None
            )
            if entry is not None:
                self.make(last, entry[0])
            elif self.total < self.minsize:
                self.planned.append(record.arguments if last is NO_ARGUMENTS else last)
                while len(self.planned) > self.minsize:
                    self.planned.popleft()
        self.serve()
        self.on_limits()
        self.notify_change()

    def schedule_expiry(self) -> None:
        """One timer for all lives: it fires when the first one ends."""
        assert self.loop is not None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        first = min((record.until for record in self.records.values() if record.usable), default=float("inf"))
        if self.is_open and first < float("inf"):
            self._expiry = self.loop.call_later(max(0.0, first - self.now()), self._expire)

    def _expire(self) -> None:
        now = self.now()
        for record in [record for record in self.records.values() if record.usable and record.until <= now]:
            self.retire_on_return(record)
        self.schedule_expiry()

    def close(self) -> None:
        """Lend nothing any more: acquires that wait get `PoolShutDown`, and lent connections are retired on return."""
        self.is_open = False
        self.reset_backoff()
        self.planned.clear()
        self.waiters.fail(shut_down_error)
        for record in [*self.records.values()]:
            self.retire_on_return(record)
        self.schedule_expiry()
        self.notify_change()

    # Waiting for changes

    async def change(self) -> None:
        """Wait until something has changed."""
        if self._change is None or self._change.done():
            self._change = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._change)

    def notify_change(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)


def shut_down_error() -> PoolShutDown:
    return PoolShutDown("the pool has been stopped; start it again, or use one that is open")
