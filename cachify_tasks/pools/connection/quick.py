"""The short ways: an idle connection is lent, a lent one lies idle again or goes to who waits.

They decide where a program's time goes, so they look at nothing that another way can see to:

- `_home` is the pool's event loop only while no healthchecker, no leak report and no lowered limit has to be heeded. A
  pool that is not open has no home, in a forked child neither.
- What is idle is fresh: a timer takes out what is too old. What is idle is free: while somebody waits nothing is idle.
- `take` is a local name, for before Python 3.12 a call of an attribute that is no method is slow.
- What is to be retired when it comes back is not in `_lent`.

Before Python 3.12 the running loop is asked for with a system call, which would be a third of the whole: there the
thread in which the home runs is compared.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from asyncio import get_running_loop
from typing import TypeVar

from .turns import Turns

T = TypeVar("T")

ACQUIRE = """A connection, which is the caller's until it is released; waits for one in the order of arrival.

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
RELEASE = """Give a connection back: to the one who waits the longest, or to lie idle.

Returns when the connection is settled: with a healthchecker or a cleaner to run it waits for that, and a cancellation
of this wait changes nothing.

Args:
    conn: as it was acquired; it is known by its identity.
    *a, **k: for the factory, if the connection is given up and another takes its place; for the cleaner, if it takes
        them.

Raises:
    NotLent: it is not lent: given back already, or another's.
    PoolError: called from another event loop or in a forked child.
"""


class Quick(Turns[T]):
    if sys.version_info >= (3, 12):

        async def acquire(self, *a: object, **k: object) -> T:
            if get_running_loop() is self._home and not k:
                if self._idle:
                    take = self._take
                    record = take()
                    record.lends += 1
                    self._lent[record.key] = record
                    return record.conn
                future = self._join(a, k, self._options.timeout)
                try:
                    return (await future).conn
                except BaseException:
                    self._leave(future)
                    raise
            return await self._acquire(a, k)

        async def release(self, conn: T, /, *a: object, **k: object) -> None:
            if get_running_loop() is self._home:
                record = self._lent.pop(id(conn), None)
                if record is not None:
                    if self._line:
                        self._hand_over(record)
                    else:
                        self._idle.append(record)
                    return
            await self._release(conn, a, k)

    else:

        async def acquire(self, *a: object, **k: object) -> T:
            if get_ident() == self._home._thread_id and not k:
                if self._idle:
                    take = self._take
                    record = take()
                    record.lends += 1
                    self._lent[record.key] = record
                    return record.conn
                future = self._join(a, k, self._options.timeout)
                try:
                    return (await future).conn
                except BaseException:
                    self._leave(future)
                    raise
            return await self._acquire(a, k)

        async def release(self, conn: T, /, *a: object, **k: object) -> None:
            if get_ident() == self._home._thread_id:
                record = self._lent.pop(id(conn), None)
                if record is not None:
                    if self._line:
                        self._hand_over(record)
                    else:
                        self._idle.append(record)
                    return
            await self._release(conn, a, k)

    acquire.__doc__, release.__doc__ = ACQUIRE, RELEASE
