"""What a pool does with many calls: results in a list, or one by one."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, overload

from .checks import whole
from .crew import Crew
from .rows import Source, all_of, all_rows, rows

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")

Of = Iterable[A] | AsyncIterable[A]


class Maps(ABC):
    """The methods of `AdvancedPool` that call one function many times."""

    _crew: Crew

    @abstractmethod
    async def submit(self, f: Callable[..., T], /, *args: Any, **kwargs: Any) -> asyncio.Future[T]: ...

    @abstractmethod
    def _ready(self, f: object, priority: int = 0) -> object:
        """Refuse what cannot be run before an iterable is asked for anything."""

    @abstractmethod
    async def _spread(
        self, f: Callable[..., T], rows: list[tuple[Any, ...]], priority: int, timeout: float | timedelta | None
    ) -> list[T]: ...

    @overload
    async def map(
        self,
        f: Callable[[A], T],
        it: Of[A],
        /,
        *,
        priority: int = ...,
        strict: bool = ...,
        timeout: float | timedelta | None = ...,
    ) -> list[T]: ...
    @overload
    async def map(
        self,
        f: Callable[[A, B], T],
        i1: Of[A],
        i2: Of[B],
        /,
        *,
        priority: int = ...,
        strict: bool = ...,
        timeout: float | timedelta | None = ...,
    ) -> list[T]: ...
    @overload
    async def map(
        self,
        f: Callable[..., T],
        /,
        *its: Source,
        priority: int = ...,
        strict: bool = ...,
        timeout: float | timedelta | None = ...,
    ) -> list[T]: ...
    async def map(
        self,
        f: Callable[..., T],
        /,
        *its: Source,
        priority: int = 0,
        strict: bool = False,
        timeout: float | timedelta | None = None,
    ) -> list[T]:
        """The results of `f` for the items of the iterables, in their order.

        The iterables are read to their end first, in the event loop; the shortest one ends it. In the queue a map is
        one entry. At the first exception it ends with that one, and items that have not begun are left out.

        Args:
            priority: the smaller number first; something more urgent goes between two items.
            strict: the iterables must be of the same length.
            timeout: seconds for the whole of it.

        Raises:
            ValueError: the lengths differ, and `strict` was given.
            TimeoutError: it has not ended in time.
            PoolError, PoolShutDown: as `submit`.

        >>> from cachify_tasks.pools import AdvancedPool
        >>> async def lengths() -> list[int]:
        ...     async with AdvancedPool() as pool:
        ...         return await pool.map(len, ["one", "three"])
        >>> asyncio.run(lengths())
        [3, 5]
        """
        self._ready(f, priority)
        if not its:
            raise TypeError("map needs one iterable or more")
        return await self._spread(f, await all_rows(its, strict=strict), priority, timeout)

    async def starmap(
        self,
        f: Callable[..., T],
        it: Of[Iterable[Any]],
        /,
        priority: int = 0,
        timeout: float | timedelta | None = None,
    ) -> list[T]:
        """`map`, of one iterable whose items are the positional arguments of a call."""
        self._ready(f, priority)
        return await self._spread(f, [tuple(args) for args in await all_of(it)], priority, timeout)

    async def doublestarmap(
        self,
        f: Callable[..., T],
        it: Of[Mapping[str, Any]],
        /,
        priority: int = 0,
        timeout: float | timedelta | None = None,
    ) -> list[T]:
        """`map`, of one iterable whose items are the keyword arguments of a call."""
        self._ready(f, priority)
        return await self._spread(partial(_by_name, f), [(kwargs,) for kwargs in await all_of(it)], priority, timeout)

    double_starmap = doublestarmap

    async def starmap_with_kwds(
        self,
        f: Callable[..., T],
        it: Of[tuple[Of[Any], Mapping[str, Any]]],
        /,
        priority: int = 0,
        timeout: float | timedelta | None = None,
    ) -> list[T]:
        """`map`, of one iterable whose items are pairs: positional arguments, keyword arguments."""
        self._ready(f, priority)
        pairs = [(await all_of(args), kwargs) for args, kwargs in await all_of(it)]
        return await self._spread(partial(_by_both, f), pairs, priority, timeout)

    async def imap(
        self,
        f: Callable[..., T],
        /,
        *its: Source,
        priority: int = 0,
        strict: bool = False,
        ahead: int | None = None,
    ) -> AsyncIterator[T]:
        """The results one by one, in the order of the items; the iterables may be endless.

        What was begun ahead is cancelled when the iteration ends early: use `contextlib.aclosing` to have it end at
        once. An exception ends it, in its place among the results.

        Args:
            ahead: items that are submitted before they are asked for; twice the most workers if not given.

        >>> import itertools
        >>> from cachify_tasks.pools import AdvancedPool
        >>> async def first() -> int:
        ...     async with AdvancedPool() as pool, contextlib.aclosing(pool.imap(abs, itertools.count(-3))) as results:
        ...         async for result in results:
        ...             return result
        >>> asyncio.run(first())
        3
        """
        ahead = self._ahead(f, its, priority, ahead)
        flying: deque[asyncio.Future[T]] = deque()
        broken: Exception | None = None
        source = rows(its, strict=strict)
        try:
            while broken is None or flying:
                while broken is None and len(flying) < ahead:
                    try:
                        row = await anext(source)
                    except Exception as error:  # noqa: BLE001  # the end, or what the iterable raises: after the results
                        broken = error
                    else:
                        flying.append(await self.submit(f, *row, _priority_=priority))
                if flying:
                    yield await flying[0]
                    flying.popleft()
            if not isinstance(broken, StopAsyncIteration):
                raise broken
        finally:
            _cancel(flying)

    async def imap_unordered(
        self,
        f: Callable[..., T],
        /,
        *its: Source,
        priority: int = 0,
        strict: bool = False,
        ahead: int | None = None,
    ) -> AsyncIterator[T]:
        """`imap`, in the order in which the calls end."""
        ahead = self._ahead(f, its, priority, ahead)
        flying: set[asyncio.Future[T]] = set()
        ended: asyncio.Queue[asyncio.Future[T]] = asyncio.Queue()
        broken: Exception | None = None
        source = rows(its, strict=strict)
        try:
            while broken is None or flying:
                while broken is None and len(flying) < ahead:
                    try:
                        row = await anext(source)
                    except Exception as error:  # noqa: BLE001  # the end, or what the iterable raises: after the results
                        broken = error
                    else:
                        job = await self.submit(f, *row, _priority_=priority)
                        flying.add(job)
                        job.add_done_callback(ended.put_nowait)
                if flying:
                    job = await ended.get()
                    flying.discard(job)
                    yield await job
            if not isinstance(broken, StopAsyncIteration):
                raise broken
        finally:
            _cancel(flying)

    def _ahead(self, f: object, its: tuple[Source, ...], priority: int, ahead: int | None) -> int:
        self._ready(f, priority)
        if not its:
            raise TypeError("imap needs one iterable or more")
        return 2 * self._crew.limits.most if ahead is None else whole("ahead", ahead, 1)


def _by_name(f: Callable[..., T], kwargs: Mapping[str, Any]) -> T:
    return f(**kwargs)


def _by_both(f: Callable[..., T], args: Iterable[Any], kwargs: Mapping[str, Any]) -> T:
    return f(*args, **kwargs)


def _cancel(flying: Iterable[asyncio.Future[Any]]) -> None:
    for job in list(flying):
        if not job.cancel():
            with contextlib.suppress(BaseException):
                job.exception()  # it is nobody's any more: let the loop not tell of it
