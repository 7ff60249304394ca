"""The long ways: an acquire with an option or a check to heed or a line to stand in, a release that is not plain."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from typing import TypeVar

from ..errors import PoolError, PoolFull
from . import options
from .errors import NotLent, PoolTimeout
from .life import Life
from .records import PLAIN, Recipe, Record

T = TypeVar("T")


class Turns(Life[T]):
    async def _acquire(self, a: tuple[object, ...], k: dict[str, object]) -> T:
        timeout = self._options.timeout
        if "_timeout_" in k:
            timeout = options.optional_seconds("_timeout_", k.pop("_timeout_"), zero=True)
        self._refuse_misuse(get_running_loop())
        if self._idle and self._options.healthchecker is None:  # then nobody waits
            record = self._take()
            record.lends += 1
            self._lent[record.key] = record
        else:
            future = self._join(a, k, timeout)
            try:
                record = await future
            except BaseException:
                self._leave(future)
                raise
        if self._options.leak_after is not None:
            self._remember(record)
        return record.conn

    def _join(self, a: tuple[object, ...], k: dict[str, object], timeout: float | None) -> asyncio.Future[Record[T]]:
        """Stand in line. Most of a full pool's acquires come here, so it looks at little."""
        if self._options.max_waiting is not None:
            self._refuse_if_crowded(self._options.max_waiting)
        loop = self._loop
        assert loop is not None
        future: asyncio.Future[Record[T]] = loop.create_future()
        self._line.append((future, Recipe(a, k) if a or k else PLAIN))
        self._counts.waits += 1
        if timeout is not None:
            timer = loop.call_later(timeout, self._too_late, future, timeout)
            future.add_done_callback(lambda _: timer.cancel())
        if self._idle or len(self._records) + self._making < self._maxsize:
            self._serve()
        return future

    def _leave(self, future: asyncio.Future[Record[T]]) -> None:
        """The wait was cancelled, or its coroutine closed, or the future has an error."""
        if not future.done():
            future.cancel()
        if future.cancelled():
            self._waiters.left()
        elif future.exception() is None:  # handed over, and not taken any more
            self._back_unused(future.result())

    def _too_late(self, future: asyncio.Future[Record[T]], timeout: float) -> None:
        if not future.done():
            told = f"no connection within {timeout:g} s: {self._told()}"
            future.set_exception(PoolTimeout(told))
            self._waiters.left()
            self._counts.timeouts += 1

    def _back_unused(self, record: Record[T]) -> None:
        """It goes to the next one, without a check: nobody has used it."""
        if self._lent.pop(record.key, None) is None:
            self._doomed.pop(record.key, None)
        self._offer(record)

    async def _release(self, conn: T, a: tuple[object, ...], k: dict[str, object]) -> None:
        self._refuse_a_fork()
        if self._loop is None:
            raise PoolError("the pool has not been started: it has lent nothing")
        self._refuse_another(get_running_loop())
        key = id(conn)
        record = self._lent.pop(key, None) or self._doomed.pop(key, None)
        if record is None:
            known = key in self._records
            raise NotLent(
                f"this {type(conn).__name__} is not lent: "
                + ("it has been released already" if known else "this pool did not lend it, or has given it up")
            )
        record.stack = None
        settling = self._back(record, Recipe(a, k) if a or k else PLAIN)
        if settling is not None:
            await asyncio.shield(settling)

    def _refuse_if_crowded(self, most: int) -> None:
        """Raise if this one would have to wait for others' connections and too many do."""
        if self._idle or self._places < self._maxsize:
            return
        others = self._waiters.live - self._coming
        if others >= most:
            self._counts.refused += 1
            raise PoolFull(f"max_waiting is {most}: {self._told()}")

    def _told(self) -> str:
        return f"{self.in_use} of {self._maxsize} connections are lent, {self._waiters.live} acquires wait"
