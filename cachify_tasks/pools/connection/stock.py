"""The connections of a pool and the places that they take: made, lent, checked, cleaned, handed over.

All of it happens in one event loop, between two awaits, so there is no lock. What takes time (the factory, the
healthchecker, the cleaner) runs in tasks of the pool, never in the caller's: a caller who is cancelled breaks nothing.

A place is taken before a connection is made and is free again when it has been cleaned. Whatever frees something ends
in `_serve`, which sees to it that for each one who waits something is on its way, as long as there are places.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Coroutine
from time import monotonic
from typing import TypeAlias, TypeVar

from ..errors import PoolError, PoolShutDown
from .calls import Calls, accepts, is_async
from .options import Options
from .records import PLAIN, Counts, Recipe, Record
from .shelf import NOWHERE, Shelf, home_of
from .waiters import Waiters

logger = logging.getLogger("cachify_tasks.pools")

T = TypeVar("T")

LONGEST = 60.0  # seconds between two attempts to make a connection that nobody waits for
Making: TypeAlias = asyncio.Task[BaseException | None]  # gives the error that it met


class Stock(Shelf[T]):
    _options: Options
    _minsize: int
    _maxsize: int

    def __init__(self) -> None:
        super().__init__()
        self._now = monotonic
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = False
        self._starting = False
        self._calls = Calls()
        self._records: dict[int, Record[T]] = {}  # all; those that are being cleaned too
        self._doomed: dict[int, Record[T]] = {}  # lent, and to be retired when they come back
        self._waiters: Waiters[T] = Waiters()
        self._line = self._waiters.line
        self._asked: set[asyncio.Future[Record[T]]] = set()  # a connection is being made with their arguments
        self._recipes: deque[Recipe] = deque()  # for connections that minsize asks for
        self._tasks: set[Making] = set()
        self._making = self._checking = self._cleaning = 0
        self._coming = 0  # what those who wait can expect: being made, being checked
        self._serving = False
        self._failures = 0  # in a row
        self._pause: asyncio.TimerHandle | None = None  # until minsize is seen to again
        self._expiry: asyncio.TimerHandle | None = None
        self._news: asyncio.Future[None] | None = None
        self._counts = Counts()

    @property
    def _places(self) -> int:
        """How many are taken."""
        return len(self._records) + self._making

    def _spawn(self, work: Coroutine[object, object, BaseException | None]) -> Making:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _serve(self) -> None:
        """Start what is missing. A call out of itself is left to the one that runs."""
        if self._serving:
            return
        self._serving = True
        try:
            while self._open and self._start_one():
                pass
        finally:
            self._serving = False

    def _start_one(self) -> bool:
        if self._waiters.live > self._coming:
            if self._idle and self._options.healthchecker is not None:
                self._check(self._take())
                return True
            if self._places < self._maxsize:
                entry = self._unasked()
                if entry is not None:
                    self._make(entry[1], entry[0])
                    return True
        if self._places < self._minsize and self._pause is None and not self._starting:
            self._make(self._recipes.popleft() if self._recipes else PLAIN)
            return True
        return False

    def _unasked(self) -> tuple[asyncio.Future[Record[T]], Recipe] | None:
        """The first who waits and has no connection in the making."""
        for entry in self._line:
            if not entry[0].done() and entry[0] not in self._asked:
                return entry
        return None

    def _make(self, recipe: Recipe, waiter: asyncio.Future[Record[T]] | None = None) -> Making:
        """Take a place and make a connection. Its errors are the waiter's; without one the pool tries again later."""
        self._making += 1
        self._coming += 1
        if waiter is not None:
            self._asked.add(waiter)
        return self._spawn(self._made(recipe, waiter))

    async def _made(self, recipe: Recipe, waiter: asyncio.Future[Record[T]] | None) -> BaseException | None:
        record: Record[T] | None = None
        failure: BaseException = PoolError("the factory was cancelled")
        try:
            conn = await self._calls.call(self._options.factory, *recipe.args, **recipe.kwargs)
            record = self._registered(conn, recipe)
        except asyncio.CancelledError as error:  # not thrown into somebody whom nobody has cancelled
            failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001  # it is the waiter's
            failure = error
        self._making -= 1
        self._coming -= 1
        if waiter is not None:
            self._asked.discard(waiter)
        if record is not None:
            self._forget_failures()
            self._counts.made += 1
            await self._settle(record)
        else:
            self._counts.failed += 1
            if waiter is None:
                self._put_off(recipe, failure)
            elif not waiter.done():
                waiter.set_exception(failure)
                self._waiters.left()
            self._tune()
        self._serve()
        self._tell()
        return None if record is not None else failure

    def _registered(self, conn: T, recipe: Recipe) -> Record[T]:
        if id(conn) in self._records:
            raise PoolError(
                f"the factory gave a {type(conn).__name__} that this pool has already; it must make a new one"
            )
        now = self._now()
        record = Record(conn, recipe, now, now + self._options.maxlife * (1 - self._options.jitter * random.random()))
        self._records[record.key] = record
        self._await_expiry()
        return record

    async def _settle(self, record: Record[T], last: Recipe = PLAIN) -> None:
        """A connection out of one of our tasks goes on, or is cleaned within that task."""
        if self._keeps(record):
            self._offer(record)
        else:
            self._cleaning += 1
            self._serve()  # who counted on it needs another one
            await self._cleaned(record, last)

    def _keeps(self, record: Record[T]) -> bool:
        return record.fresh and self._open and self._places <= self._maxsize

    def _offer(self, record: Record[T]) -> None:
        """To the first who waits; if nobody does, it lies idle."""
        if not self._keeps(record):
            self._retire(record)
            return
        self._hand_over(record)

    def _hand_over(self, record: Record[T]) -> None:
        line = self._line
        while line:
            waiter, _ = line.popleft()
            if waiter.done():
                self._waiters.passed()
                continue
            record.lends += 1
            self._lent[record.key] = record
            waiter.set_result(record)
            return
        self._idle.append(record)

    def _back(self, record: Record[T], last: Recipe) -> Making | None:
        """A lent connection has come back; the task that looks after it, if one has to."""
        if not self._keeps(record):
            return self._retire(record, last)
        if self._options.healthchecker is not None:
            return self._check(record, last)
        self._offer(record)
        return None

    def _check(self, record: Record[T], last: Recipe = PLAIN) -> Making:
        self._checking += 1
        self._coming += 1
        return self._spawn(self._checked(record, last))

    async def _checked(self, record: Record[T], last: Recipe) -> None:
        checker, healthy = self._options.healthchecker, False
        try:
            check = self._is_healthy if checker is None or not is_async(checker) else checker
            healthy = bool(await self._calls.call(check, record.conn))
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001  # nobody waits for it
            logger.warning("the healthchecker failed, its connection is given up: %r", error)
        self._checking -= 1
        self._coming -= 1
        record.checked_at = self._now()
        if not healthy:
            record.fresh = False
            self._counts.sick += 1
        await self._settle(record, last)
        self._serve()
        self._tell()

    def _is_healthy(self, conn: T, /) -> object:
        """What the healthchecker says, or will say; True without one."""
        checker = self._options.healthchecker
        return True if checker is None else checker(conn)

    def _retire(self, record: Record[T], last: Recipe = PLAIN) -> Making | None:
        """Give a connection up. Its place is free when it has been cleaned."""
        record.fresh = False
        if self._options.cleaner is None:
            self._gone(record, last)
            return None
        self._cleaning += 1
        return self._spawn(self._cleaned(record, last))

    async def _cleaned(self, record: Record[T], last: Recipe) -> None:
        try:
            if self._options.cleaner is not None:
                args = (record.conn, *last.args)
                suits = last is not PLAIN and accepts(self._options.cleaner, args, last.kwargs)
                if suits:
                    await self._calls.call(self._options.cleaner, *args, **last.kwargs)
                else:
                    await self._calls.call(self._options.cleaner, record.conn)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001  # nobody waits for it
            logger.warning("the cleaner failed: %r", error)
        self._cleaning -= 1
        self._gone(record, last)

    def _gone(self, record: Record[T], last: Recipe) -> None:
        """Its place is free: for who waits, made with what the releaser gave; for minsize, as the old one was."""
        del self._records[record.key]
        self._counts.retired += 1
        self._counts.lends += record.lends
        if self._open and self._places < self._maxsize:
            entry = self._unasked() if last is not PLAIN and self._waiters.live > self._coming else None
            if entry is not None:
                self._make(last, entry[0])
            elif self._places < self._minsize:
                self._recipes.append(record.recipe if last is PLAIN else last)
                while len(self._recipes) > self._minsize:
                    self._recipes.popleft()
        self._serve()
        self._tune()
        self._tell()

    def _doom(self, record: Record[T]) -> Making | None:
        """It is lent no more: retired now if it is idle, else when it comes back."""
        record.fresh = False
        if self._lent.pop(record.key, None) is not None:
            self._doomed[record.key] = record
        elif record in self._idle:
            self._idle.remove(record)
            return self._retire(record)
        return None

    def _await_expiry(self) -> None:
        """One timer for all lives: it rings when the first one ends."""
        assert self._loop is not None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        first = min((record.until for record in self._records.values() if record.fresh), default=float("inf"))
        if self._open and first < float("inf"):
            self._expiry = self._loop.call_later(max(0.0, first - self._now()), self._expire)

    def _expire(self) -> None:
        now = self._now()
        for record in [record for record in self._records.values() if record.fresh and record.until <= now]:
            self._doom(record)
        self._await_expiry()

    def _put_off(self, recipe: Recipe, failure: BaseException) -> None:
        """A connection that nobody waits for was not made: again, after a while that doubles with each failure."""
        if not self._open or self._starting:
            return
        self._recipes.append(recipe)
        if self._pause is None:
            assert self._loop is not None
            delay = min(self._options.backoff * 2 ** min(self._failures, 16), LONGEST) * random.uniform(0.5, 1)
            self._failures += 1
            self._pause = self._loop.call_later(delay, self._resume)
            logger.warning("no connection could be made, trying again in %s s: %r", round(delay, 3), failure)

    def _resume(self) -> None:
        self._pause = None
        self._serve()

    def _forget_failures(self) -> None:
        self._failures = 0
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    @property
    def in_use(self) -> int:
        """How many connections are lent."""
        return len(self._lent) + len(self._doomed)

    def _tune(self) -> None:
        """Open the short ways where nothing has to be looked at on the way."""
        assert self._loop is not None
        plain = (
            self._options.healthchecker is None and self._options.leak_after is None and self._places <= self._maxsize
        )
        self._home = home_of(self._loop) if self._open and plain else NOWHERE

    def _tell(self) -> None:
        """Wake those who wait for a change."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _closed_error(self) -> PoolError:
        return PoolShutDown("the pool has been stopped; start it again, or use one that is open")
