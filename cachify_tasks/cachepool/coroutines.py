"""The pool for coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from inspect import isawaitable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from .base import BasePool
from .errors import CachePoolError
from .flows import Flow, emptying, failed
from .records import Record
from .wrappers import BaseWrapper, Decider

if TYPE_CHECKING:
    from datetime import timedelta

T = TypeVar("T")


async def adrive(flow: Flow[T]) -> T:
    """`drive`, for functions that may answer with something to await."""
    result: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = flow.send(result) if error is None else flow.throw(error)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            result = error = None
        try:
            result = step()
            if isawaitable(result):
                result = await result
        except BaseException as raised:  # noqa: BLE001  # the flow decides what to do with it
            error = raised


class AsyncCachePool(BasePool[T]):
    """`CachePool` for one event loop: its functions may be coroutine functions, and its methods are awaited.

    Takes what `CachePool` takes. A call that is cancelled loses no element: one that is being made is its generator's,
    one that is being validated is closed. When its event loop has been closed, the pool begins anew in the next one.

    Example:
        >>> import asyncio
        >>> from cachify_tasks.cachepool import AsyncCachePool
        >>> async def main():
        ...     pool = AsyncCachePool(dict)
        ...     await pool.put(await pool.get())
        ...     return pool.stat
        >>> asyncio.run(main())
        {'new': 1, 'get': 1, 'put': 1}
    """

    __slots__ = ("_loop",)

    if TYPE_CHECKING:

        @overload
        def __init__(
            self,
            generator: Callable[..., Awaitable[T]],
            generator_args: Iterable[Any] | None = None,
            generator_argkw: Mapping[Any, Any] | None = None,
            close_callback: Callable[[T], Any] | None = None,
            pool_size: int = 1024,
            *,
            max_idle: float | timedelta | None = None,
            validator: Callable[[T], Any] | None = None,
            lifo: bool = False,
        ) -> None: ...
        @overload
        def __init__(
            self,
            generator: Callable[..., T],
            generator_args: Iterable[Any] | None = None,
            generator_argkw: Mapping[Any, Any] | None = None,
            close_callback: Callable[[T], Any] | None = None,
            pool_size: int = 1024,
            *,
            max_idle: float | timedelta | None = None,
            validator: Callable[[T], Any] | None = None,
            lifo: bool = False,
        ) -> None: ...
        def __init__(self, *args: Any, **options: Any) -> None: ...

    def _abandon(self) -> None:
        super()._abandon()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _bind(self) -> None:
        """Elements belong to the event loop that they were made in."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if self._loop is not None:
            if not self._loop.is_closed():
                raise CachePoolError("the pool belongs to another event loop, which is still open; make one for each")
            self._abandon()
        self._loop = loop

    async def get(self) -> T:
        """`CachePool.get`, awaited. Raises `CachePoolError` in another event loop, too; so do the methods below."""
        self._bind()
        record = self._pop()
        if record is not None and self._vetted:
            record = await adrive(self._fit(record))
        if record is not None:
            return self._lend(record)
        self._check_open()
        element: Any = self._generator(*self._args, **self._argkw)
        if isawaitable(element):
            element = await element
        self._enrol(element)
        return cast("T", element)

    async def put(self, element: T) -> None:
        """`CachePool.put`, awaited."""
        self._bind()
        record = self._claimed(element)
        if record is None:
            return
        record.element = element
        record.since = monotonic()
        try:
            self._idle.insert(self._end, record)
        except IndexError:
            pass
        else:
            if self._swept:
                await adrive(emptying(self._stale, self._ending))
            return
        await self._ended(record, element)

    async def close(self, element: T) -> None:
        """`CachePool.close`, awaited."""
        self._bind()
        record = self._claimed(element)
        if record is not None:
            await self._ended(record, element)

    async def _ended(self, record: Record, element: T) -> None:
        closing = self._dispose(record, element, record.gets - 1)
        if isawaitable(closing):
            await closing

    async def clear(self) -> int:
        """`CachePool.clear`, awaited."""
        self._bind()
        return await adrive(emptying(self._those_now(), self._ending))

    async def prune(self) -> int:
        """`CachePool.prune`, awaited."""
        self._bind()
        return await adrive(emptying(self._stale, self._ending))

    async def close_all(self) -> int:
        """`CachePool.close_all`, awaited."""
        self._bind()
        self._shut()
        return await adrive(emptying(self._stale, self._ending))


class AsyncCacheWrapper(BaseWrapper[T]):
    """Lends an element of an `AsyncCachePool` for an `async with` block; `reuse_decider` may be a coroutine function.

    Example:
        >>> import asyncio
        >>> from cachify_tasks.cachepool import AsyncCachePool, make_wrapper
        >>> async def main():
        ...     wrapper = make_wrapper(AsyncCachePool(list))
        ...     async with wrapper() as element:
        ...         element.append(1)
        ...     async with wrapper() as element:
        ...         return element
        >>> asyncio.run(main())
        [1]
    """

    __slots__ = ()

    def __init__(self, pool: AsyncCachePool[T], reuse_decider: Decider | None = None) -> None:
        if not isinstance(pool, AsyncCachePool):
            raise TypeError(f"pool={pool!r}: give an AsyncCachePool")
        super().__init__(pool, reuse_decider)

    @property
    def element(self) -> T | None:
        """What this task has been lent by this wrapper; None outside of the block."""
        return self._top(asyncio.current_task())

    async def __aenter__(self) -> T:
        return self._enter(asyncio.current_task(), await self._pool.get())

    async def __aexit__(self, *error: Any) -> None:
        element = self._leave(asyncio.current_task())
        if error[0] is None:
            await self._pool.put(element)
        else:
            await adrive(failed(self._pool, element, self._decider, error))
