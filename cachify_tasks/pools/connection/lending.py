"""A connection for the length of a block."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from ..errors import PoolError
from .errors import NotLent
from .records import Record

if TYPE_CHECKING:
    from .quick import Quick

T = TypeVar("T")


class Lending(Generic[T]):
    """What `pool.connection()` gives: `async with` lends a connection and releases it in the end."""

    __slots__ = ("_a", "_k", "_lends", "_pool", "_record")

    def __init__(self, pool: Quick[T], a: tuple[object, ...], k: dict[str, object]) -> None:
        self._pool, self._a, self._k = pool, a, k
        self._record: Record[T] | None = None
        self._lends = 0

    async def __aenter__(self) -> T:
        if self._record is not None:
            raise PoolError("this block's connection is lent already; call connection() for each block")
        conn = await self._pool.acquire(*self._a, **self._k)
        self._record = self._pool._records[id(conn)]
        self._lends = self._record.lends
        return conn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        record, self._record = self._record, None
        assert record is not None
        pool = self._pool
        lent = pool._lent.get(record.key) or pool._doomed.get(record.key)
        if lent is record and record.lends == self._lends:
            await pool.release(record.conn)
        elif error is None:
            raise NotLent(f"this {type(record.conn).__name__} was released within its block")
