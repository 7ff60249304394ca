"""Acquire and release: the fast path, the slow path, and the queue of acquires that wait.

On the fast path an idle connection is lent; a returned one lies idle again, or goes to the first acquire that waits. It
decides where a program's time goes, so it checks nothing that can be checked elsewhere:

- `_fast_path_loop` is the pool's event loop only while the pool is open, in its own process, has no healthchecker and
  no leak report, and no more connections than `maxsize`.
- An idle connection is usable: a timer takes out those that are too old. While an acquire waits, none is idle.
- A connection that is to be retired when it comes back is not in `_lent`.

`take` is a local name: before Python 3.12, a call of an attribute that is no method is slow. And there the running loop
is found by a system call, which would be a third of the whole: the thread in which the pool's loop runs is compared.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from _thread import get_ident
from asyncio import get_running_loop
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from ..._log_throttle import LogThrottle
from ..errors import PoolError, PoolFull
from . import patience
from .connections import Connections, shut_down_error
from .errors import NotLent, PoolTimeout
from .maintenance import Maintenance
from .options import limit
from .records import NO_ARGUMENTS, Arguments, Record
from .user_functions import name_of

T = TypeVar("T")

CLOSED: Final[Any] = SimpleNamespace(_thread_id=None)  # is no loop
_lenders: Final[WeakSet[Lender[Any]]] = WeakSet()  # what a forked child must leave alone

ACQUIRE: Final = """A connection, which is the caller's until it is released; waits for one in the order of arrival.

Args:
    *a, **k: for the factory, if it has to make one. A connection that is there is lent whatever it was made with.
    _timeout_: seconds to wait at most; None: for ever. Not given: the pool's `timeout`.

Raises:
    PoolTimeout: there was none in time.
    PoolFull: `max_waiting` others wait already.
    PoolShutDown: the pool is stopped, or was while this waited.
    PoolError: the pool is not started, belongs to another event loop or to the parent process.
    Exception: what the factory raised.

Example:
    >>> import asyncio, sqlite3
    >>> from cachify_tasks.pools import ConnectionPool
    >>> async def main():
    ...     async with ConnectionPool(lambda: sqlite3.connect(":memory:", check_same_thread=False)) as pool:
    ...         conn = await pool.acquire(_timeout_=5)
    ...         try:
    ...             return conn.execute("select 1").fetchone()
    ...         finally:
    ...             await pool.release(conn)
    >>> asyncio.run(main())
    (1,)
"""
RELEASE: Final = """Give a connection back: to the acquire that has waited longest, or to lie idle.

Returns when the connection is settled: with a healthchecker or a cleaner to run it waits for that, and a cancellation
of this wait changes nothing.

Args:
    conn: as it was acquired; it is known by its identity.
    *a, **k: for the factory, if the connection is given up and another one replaces it; for the cleaner, if it takes
        them.

Raises:
    NotLent: it is not lent: released already, or another's.
    PoolError: called from another event loop or in a forked child.
"""


class Lender(Generic[T]):
    """The half of `ConnectionPool` that lends. Belongs to the pool's event loop, as `Connections` does."""

    def __init__(self, connections: Connections[T]) -> None:
        self._connections = connections
        self._options = connections.options
        self._maintenance = Maintenance(connections)
        self._forked = False
        self._ever_started = False
        # What the fast path touches.
        self._fast_path_loop: Any = CLOSED
        self._idle = connections.idle
        self._take = connections.take
        self._lent = connections.lent
        self._queue = connections.waiters.queue
        self._hand_over = connections.hand_over
        self._log = LogThrottle()
        self._title = f"ConnectionPool of {name_of(self._options.factory)}"
        self._patience = patience.Patience(connections.waiters, self._on_timeout, self._on_stall)
        connections.on_limits = self._tune_fast_path
        _lenders.add(self)

    if sys.version_info >= (3, 12):

        async def acquire(self, *a: object, **k: object) -> T:
            if get_running_loop() is self._fast_path_loop and not k:
                if self._idle:
                    take = self._take
                    record = take()
                    record.lends += 1
                    self._lent[record.key] = record
                    return record.conn
                future = self._queue_up(a, k)
                try:
                    return (await future).conn
                except BaseException:
                    self._leave_queue(future)
                    raise
            return await self._acquire(a, k)

        async def release(self, conn: T, /, *a: object, **k: object) -> None:
            if get_running_loop() is self._fast_path_loop:
                record = self._lent.pop(id(conn), None)
                if record is not None:
                    if self._queue:
                        self._hand_over(record)
                    else:
                        self._idle.append(record)
                    return
            await self._release(conn, a, k)

    else:

        async def acquire(self, *a: object, **k: object) -> T:
            if get_ident() == self._fast_path_loop._thread_id and not k:
                if self._idle:
                    take = self._take
                    record = take()
                    record.lends += 1
                    self._lent[record.key] = record
                    return record.conn
                future = self._queue_up(a, k)
                try:
                    return (await future).conn
                except BaseException:
                    self._leave_queue(future)
                    raise
            return await self._acquire(a, k)

        async def release(self, conn: T, /, *a: object, **k: object) -> None:
            if get_ident() == self._fast_path_loop._thread_id:
                record = self._lent.pop(id(conn), None)
                if record is not None:
                    if self._queue:
                        self._hand_over(record)
                    else:
                        self._idle.append(record)
                    return
            await self._release(conn, a, k)

    acquire.__doc__, release.__doc__ = ACQUIRE, RELEASE

    def connection(self, *a: object, **k: object) -> Lending[T]:
        """`async with pool.connection() as conn`: acquires, and releases in the end. Takes what `acquire` takes."""
        return Lending(self, a, k)

    async def _acquire(self, a: tuple[object, ...], k: dict[str, object]) -> T:
        """Where the fast path is closed, or an option is given."""
        has_timeout = "_timeout_" in k
        timeout = limit("_timeout_", k.pop("_timeout_")) if has_timeout else None
        self._check_usable(get_running_loop())
        if self._idle and self._options.healthchecker is None:  # then no acquire waits
            record = self._take()
            record.lends += 1
            self._lent[record.key] = record
        else:
            future = self._queue_up(a, k, math.inf if has_timeout else None)
            if timeout is not None:
                timer = asyncio.get_running_loop().call_later(timeout, self._on_timeout, future, timeout)
                future.add_done_callback(lambda _: timer.cancel())
            try:
                record = await future
            except BaseException:
                self._leave_queue(future)
                raise
        if self._options.leak_after is not None:
            self._maintenance.remember_borrower(record)
        return record.conn

    def _queue_up(
        self, a: tuple[object, ...], k: dict[str, object], ends: float | None = None
    ) -> asyncio.Future[Record[T]]:
        """Wait in the queue. Most of a full pool's acquires come here, so it does little.

        Args:
            ends: when the wait ends on the loop's clock; None: the pool's `timeout` says it.
        """
        connections = self._connections
        if self._options.max_waiting is not None:
            self._refuse_if_crowded(self._options.max_waiting)
        loop = connections.loop
        assert loop is not None
        future: asyncio.Future[Record[T]] = loop.create_future()
        if ends is None:
            timeout = self._options.timeout
            ends = math.inf if timeout is None else loop.time() + timeout
        self._queue.append((future, Arguments(a, k) if a or k else NO_ARGUMENTS, ends))
        connections.counts.waits += 1
        if ends <= self._patience.at:
            self._patience.watch(loop)
        if self._idle or connections.total < connections.maxsize:
            connections.serve()
        return future

    def _leave_queue(self, future: asyncio.Future[Record[T]]) -> None:
        """The wait was cancelled, or its coroutine closed, or the future has an error."""
        if not future.done():
            future.cancel()
        if future.cancelled():
            self._connections.waiters.on_done()
        elif future.exception() is None:  # handed over, and nobody takes it: to the next one, unchecked as it is unused
            record = future.result()
            if self._lent.pop(record.key, None) is None:
                self._connections.retiring.pop(record.key, None)
            self._connections.offer(record)

    def _on_timeout(self, future: asyncio.Future[Record[T]], timeout: float | None = None) -> None:
        timeout = self._options.timeout if timeout is None else timeout
        if not future.done():
            future.set_exception(PoolTimeout(f"no connection within {timeout:g} s: {self._describe()}"))
            self._connections.waiters.on_done()
            self._connections.counts.timeouts += 1

    def _on_stall(self) -> None:
        """No acquire was served for long: nobody gives back, or a function of the user does not answer."""
        connections = self._connections
        self._log.throttled(
            "stalled",
            "%s: no connection has come back for %g s: %s; %d are being made, %d checked, %d cleaned. %s",
            self._title,
            patience.STALLED_S,
            self._describe(),
            connections.making,
            connections.checking,
            connections.cleaning,
            "leaks() shows who has them" if self._options.leak_after else "leak_after=60 would log who has them",
        )

    def _refuse_if_crowded(self, most: int) -> None:
        """Raise if this acquire would have to wait for others' connections and too many do."""
        connections = self._connections
        if self._idle or connections.total < connections.maxsize:
            return
        if connections.waiters.live - len(connections.expected) >= most:
            connections.counts.refused += 1
            raise PoolFull(f"max_waiting is {most}: {self._describe()}")

    async def _release(self, conn: T, a: tuple[object, ...], k: dict[str, object]) -> None:
        self._refuse_a_fork()
        connections = self._connections
        if connections.loop is None:
            raise PoolError("the pool has not been started: it has lent nothing")
        self._refuse_another_loop(get_running_loop())
        key = id(conn)
        record = self._lent.pop(key, None) or connections.retiring.pop(key, None)
        if record is None:
            known = key in connections.records
            raise NotLent(
                f"this {type(conn).__name__} is not lent: "
                + ("it has been released already" if known else "this pool did not lend it, or has given it up")
            )
        record.stack = None
        settling = connections.take_back(record, Arguments(a, k) if a or k else NO_ARGUMENTS)
        if settling is not None:
            await asyncio.shield(settling)

    def _tune_fast_path(self) -> None:
        """Open the fast path where nothing has to be checked on it."""
        connections, loop = self._connections, self._connections.loop
        plain = self._options.healthchecker is None and self._options.leak_after is None
        known = sys.version_info >= (3, 12) or hasattr(loop, "_thread_id")  # not uvloop's
        is_open = connections.is_open and not connections.starting
        self._fast_path_loop = (
            loop if is_open and plain and known and connections.total <= connections.maxsize else CLOSED
        )

    def _describe(self) -> str:
        connections = self._connections
        return (
            f"{connections.in_use} of {connections.maxsize} connections are lent, "
            f"{connections.waiters.live} acquires wait"
        )

    def _check_usable(self, loop: asyncio.AbstractEventLoop) -> None:
        self._refuse_a_fork()
        if self._connections.loop is None or not self._ever_started:
            raise PoolError("the pool has not been started: use `async with pool`, or `await pool.start()`")
        self._refuse_another_loop(loop)
        if not self._connections.is_open:
            raise shut_down_error()

    def _refuse_another_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        own = self._connections.loop
        if loop is not own:
            state = "has been closed" if own is not None and own.is_closed() else "is another one"
            raise PoolError(
                f"the pool belongs to the event loop it was started in, which {state}; make a pool for each"
            )

    def _refuse_a_fork(self) -> None:
        if self._forked:
            raise PoolError(
                f"the pool is the parent's, not that of this process ({os.getpid()}); make one after the fork"
            )


class Lending(Generic[T]):
    """What `pool.connection()` gives: `async with` lends a connection and releases it in the end."""

    __slots__ = ("_a", "_k", "_lender", "_lends", "_record")

    def __init__(self, lender: Lender[T], a: tuple[object, ...], k: dict[str, object]) -> None:
        self._lender = lender
        self._a = a
        self._k = k
        self._record: Record[T] | None = None
        self._lends = 0

    async def __aenter__(self) -> T:
        if self._record is not None:
            raise PoolError("this block's connection is lent already; call connection() for each block")
        conn = await self._lender.acquire(*self._a, **self._k)
        self._record = self._lender._connections.records[id(conn)]
        self._lends = self._record.lends
        return conn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        record, self._record = self._record, None
        assert record is not None
        connections = self._lender._connections
        lent = connections.lent.get(record.key) or connections.retiring.get(record.key)
        if lent is record and record.lends == self._lends:
            await self._lender.release(record.conn)
        elif error is None:
            raise NotLent(f"this {type(record.conn).__name__} was released within its block")


def _after_fork() -> None:
    for lender in _lenders:
        lender._forked = True
        lender._connections.is_open = False
        lender._fast_path_loop = CLOSED


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
