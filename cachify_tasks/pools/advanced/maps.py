"""One function, called many times: the results in a list, or one by one."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from typing import Any, TypeAlias, TypeVar, overload

from ..._checks import count, flag
from .limits import Timeout
from .scheduler import Scheduler

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")

Items: TypeAlias = Iterable[A] | AsyncIterable[A]
Row: TypeAlias = tuple[object, ...]  # the positional arguments of one call


class Maps(ABC):
    """The methods of `AdvancedPool` that call one function many times."""

    _scheduler: Scheduler

    @abstractmethod
    async def submit(self, f: Callable[..., T], /, *args: Any, **kwargs: Any) -> asyncio.Future[T]: ...

    @abstractmethod
    def _check_call(self, f: object, priority: int = 0) -> object:
        """Raise for a call that the pool cannot run, before any item is taken from an iterable."""

    @abstractmethod
    async def _run_map(self, f: Callable[..., T], rows: Sequence[Row], priority: int, timeout: Timeout) -> list[T]: ...

    @overload
    async def map(
        self, f: Callable[[A], T], it: Items[A], /, *, priority: int = ..., strict: bool = ..., timeout: Timeout = ...
    ) -> list[T]: ...
    @overload
    async def map(
        self,
        f: Callable[[A, B], T],
        i1: Items[A],
        i2: Items[B],
        /,
        *,
        priority: int = ...,
        strict: bool = ...,
        timeout: Timeout = ...,
    ) -> list[T]: ...
    @overload
    async def map(
        self,
        f: Callable[..., T],
        /,
        *its: Items[object],
        priority: int = ...,
        strict: bool = ...,
        timeout: Timeout = ...,
    ) -> list[T]: ...
    async def map(
        self,
        f: Callable[..., T],
        /,
        *its: Items[object],
        priority: int = 0,
        strict: bool = False,
        timeout: Timeout = None,
    ) -> list[T]:
        """The results of `f` for the items of the iterables, in the order of the items.

        The event loop reads the iterables first, until the shortest one ends. In the queue a map is one entry. Its
        first exception ends it: items that have not begun are not run.

        Args:
            priority: the smaller number first; a more urgent entry goes between two items.
            strict: the iterables must have the same length.
            timeout: seconds for the whole map.

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
        self._check_call(f, priority)
        if not its:
            raise TypeError("map needs at least one iterable")
        flag("strict", strict)
        if any(isinstance(items, AsyncIterable) for items in its):
            found = [row async for row in rows(its, strict=strict)]
        else:
            found = list(zip(*its, strict=strict))
        return await self._run_map(f, found, priority, timeout)

    async def starmap(
        self, f: Callable[..., T], it: Items[Iterable[object]], /, priority: int = 0, timeout: Timeout = None
    ) -> list[T]:
        """`map`, of one iterable whose items are the positional arguments of a call."""
        self._check_call(f, priority)
        return await self._run_map(f, [tuple(args) for args in await all_of(it)], priority, timeout)

    async def doublestarmap(
        self, f: Callable[..., T], it: Items[Mapping[str, object]], /, priority: int = 0, timeout: Timeout = None
    ) -> list[T]:
        """`map`, of one iterable whose items are the keyword arguments of a call."""
        self._check_call(f, priority)
        found = [((), kwargs) for kwargs in await all_of(it)]
        return await self._run_map(partial(_call, f), found, priority, timeout)

    double_starmap = doublestarmap

    async def starmap_with_kwds(
        self,
        f: Callable[..., T],
        it: Items[tuple[Items[object], Mapping[str, object]]],
        /,
        priority: int = 0,
        timeout: Timeout = None,
    ) -> list[T]:
        """`map`, of one iterable whose items are pairs: positional arguments, keyword arguments."""
        self._check_call(f, priority)
        found = [(await all_of(args), kwargs) for args, kwargs in await all_of(it)]
        return await self._run_map(partial(_call, f), found, priority, timeout)

    def imap(
        self,
        f: Callable[..., T],
        /,
        *its: Items[object],
        priority: int = 0,
        strict: bool = False,
        ahead: int | None = None,
    ) -> AsyncGenerator[T, None]:
        """The results one by one, in the order of the items; the iterables may be endless.

        If the iteration ends early, calls that were submitted ahead are cancelled: use `contextlib.aclosing` to have
        that done at once. An exception ends the iteration when its turn among the results has come.

        Args:
            ahead: how many items are submitted before their results are wanted; the default is twice the most workers.

        >>> import itertools
        >>> from cachify_tasks.pools import AdvancedPool
        >>> async def first() -> int:
        ...     async with AdvancedPool() as pool, contextlib.aclosing(pool.imap(abs, itertools.count(-3))) as results:
        ...         async for result in results:
        ...             return result
        >>> asyncio.run(first())
        3
        """
        return self._results(f, its, priority, strict, ahead, in_order=True)

    def imap_unordered(
        self,
        f: Callable[..., T],
        /,
        *its: Items[object],
        priority: int = 0,
        strict: bool = False,
        ahead: int | None = None,
    ) -> AsyncGenerator[T, None]:
        """`imap`, in the order in which the calls end."""
        return self._results(f, its, priority, strict, ahead, in_order=False)

    async def _results(
        self,
        f: Callable[..., T],
        its: tuple[Items[object], ...],
        priority: int,
        strict: bool,
        ahead: int | None,
        *,
        in_order: bool,
    ) -> AsyncGenerator[T, None]:
        self._check_call(f, priority)
        if not its:
            raise TypeError("imap needs at least one iterable")
        flag("strict", strict)
        ahead = 2 * self._scheduler.limits.most if ahead is None else count("ahead", ahead)
        jobs: dict[asyncio.Future[T], None] = {}  # submitted, and their results not yielded; a set that keeps the order
        ended: asyncio.Queue[asyncio.Future[T]] | None = None if in_order else asyncio.Queue()
        source = rows(its, strict=strict)
        end: Exception | None = None  # of the iterables
        try:
            while end is None or jobs:
                while end is None and len(jobs) < ahead:
                    try:
                        row = await anext(source)
                    except Exception as error:  # noqa: BLE001  # raised after the results
                        end = error
                    else:
                        job = await self.submit(f, *row, _priority_=priority)
                        jobs[job] = None
                        if ended is not None:
                            job.add_done_callback(ended.put_nowait)
                if jobs:
                    job = next(iter(jobs)) if ended is None else await ended.get()
                    yield await job
                    del jobs[job]
            if not isinstance(end, StopAsyncIteration):
                raise end
        finally:
            for job in jobs:
                if not job.cancel():
                    with contextlib.suppress(BaseException):
                        job.exception()  # nobody will: without this the event loop logs it


async def rows(its: tuple[Items[object], ...], *, strict: bool) -> AsyncIterator[Row]:
    """`zip`, of iterables of both kinds.

    Raises:
        ValueError: the lengths differ, and `strict` was given.
    """
    if not any(isinstance(items, AsyncIterable) for items in its):
        for row in zip(*its, strict=strict):
            yield row
        return
    iterators = [aiter(items) if isinstance(items, AsyncIterable) else iter(items) for items in its]
    while True:
        row = []
        for iterator in iterators:
            item = await _next(iterator)
            if item is not _END:
                row.append(item)
            elif not strict:
                return
        if len(row) == len(iterators):
            yield tuple(row)
        elif row:
            raise ValueError("the iterables have different lengths")
        else:
            return


_END: Any = object()


async def _next(iterator: Iterator[object] | AsyncIterator[object]) -> object:
    return await anext(iterator, _END) if isinstance(iterator, AsyncIterator) else next(iterator, _END)


async def all_of(items: Items[A]) -> list[A]:
    return [item async for item in items] if isinstance(items, AsyncIterable) else list(items)


def _call(f: Callable[..., T], args: Iterable[object], kwargs: Mapping[str, object]) -> T:
    return f(*args, **kwargs)
