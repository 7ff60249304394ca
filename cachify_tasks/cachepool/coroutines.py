"""The pool for coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from inspect import isawaitable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .base import BasePool
from .errors import CachePoolError
from .wrappers import BaseWrapper, Decider

if TYPE_CHECKING:
    from .._checks import Seconds

T = TypeVar("T")


class AsyncCachePool(BasePool[T]):
    """`CachePool` for one event loop: its functions may be coroutine functions, and its methods are awaited.

    Takes the arguments of `CachePool`. A cancelled call loses no element: the pool closes one that is being validated,
    and one that is being made is still its generator's. When its event loop has been closed, the pool begins anew in
    the next one.

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

    if TYPE_CHECKING:

        @overload
        def __init__(
            self,
            generator: Callable[..., Awaitable[T]],
            generator_args: Iterable[object] | None = None,
            generator_argkw: Mapping[Any, Any] | None = None,
            close_callback: Callable[[T], object] | None = None,
            pool_size: int = 1024,
            *,
            max_idle: Seconds | None = None,
            validator: Callable[[T], object] | None = None,
            lifo: bool = False,
        ) -> None: ...
        @overload
        def __init__(
            self,
            generator: Callable[..., T],
            generator_args: Iterable[object] | None = None,
            generator_argkw: Mapping[Any, Any] | None = None,
            close_callback: Callable[[T], object] | None = None,
            pool_size: int = 1024,
            *,
            max_idle: Seconds | None = None,
            validator: Callable[[T], object] | None = None,
            lifo: bool = False,
        ) -> None: ...
        def __init__(self, *args: object, **options: object) -> None: ...

    def _bind(self) -> None:
        """Elements belong to the event loop that they were made in."""
        loop = asyncio.get_running_loop()
        records = self._records
        if loop is records.loop:
            return
        if records.loop is not None:
            if not records.loop.is_closed():
                raise CachePoolError("the pool belongs to another event loop, which is still open; make one for each")
            records.reset()
        records.loop = loop

    async def _result(self, returned: Any) -> Any:
        return await returned if isawaitable(returned) else returned

    async def get(self) -> T:
        """`CachePool.get`, awaited. Raises `CachePoolError` in another event loop, too; so do the methods below."""
        self._bind()
        record = self._pop_idle()
        if record is not None and self._checks_idle:
            record = await self._first_fit(record)
        if record is not None:
            return self._lend(record)
        self._check_open()
        element: T = await self._result(self._generator(*self._args, **self._argkw))
        self._records.add(element)
        return element

    async def put(self, element: T) -> None:
        """`CachePool.put`, awaited."""
        self._bind()
        record = self._claim(element)
        if record is None:
            return
        record.element = element
        record.since = monotonic()
        try:
            self._idle.insert(self._end, record)
        except IndexError:
            pass
        else:
            if self._sweeps:
                await self._close_each(self._pop_stale)
            return
        await self._result(self._dispose(record, element, record.gets - 1))

    async def close(self, element: T) -> None:
        """`CachePool.close`, awaited."""
        self._bind()
        record = self._claim(element)
        if record is not None:
            await self._result(self._dispose(record, element, record.gets - 1))

    async def clear(self) -> int:
        """`CachePool.clear`, awaited."""
        self._bind()
        return await self._close_each(self._pop_all())

    async def prune(self) -> int:
        """`CachePool.prune`, awaited."""
        self._bind()
        return await self._close_each(self._pop_stale)

    async def close_all(self) -> int:
        """`CachePool.close_all`, awaited."""
        self._bind()
        self._shut()
        return await self._close_each(self._pop_stale)


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

    def __init__(self, pool: AsyncCachePool[T], reuse_decider: Decider | None = None) -> None:
        if not isinstance(pool, AsyncCachePool):
            raise TypeError(f"pool must be an AsyncCachePool, not {pool!r}")
        super().__init__(pool, reuse_decider)

    @property
    def element(self) -> T | None:
        """The element that this task has in the block; None outside of it."""
        return self._innermost(asyncio.current_task())

    async def __aenter__(self) -> T:
        return self._enter(asyncio.current_task(), await self._pool.get())

    async def __aexit__(self, *error: Any) -> None:
        element = self._leave(asyncio.current_task())
        if error[0] is None:
            await self._pool.put(element)
        else:
            await self._return_after(error, element)
