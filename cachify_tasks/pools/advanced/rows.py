"""The arguments of a map's calls, from iterables of either kind."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

Source = Iterable[Any] | AsyncIterable[Any]


class _End:
    """What an iterator that has ended gives."""


async def rows(sources: tuple[Source, ...], *, strict: bool = False) -> AsyncIterator[tuple[Any, ...]]:
    """Like zip, of iterables and asynchronous ones.

    Raises:
        ValueError: one is longer than another, and `strict` was given.
    """
    if not any(isinstance(source, AsyncIterable) for source in sources):
        for row in zip(*sources, strict=strict):
            yield row
        return
    iterators = [aiter(source) if isinstance(source, AsyncIterable) else iter(source) for source in sources]
    while True:
        row = ()
        for iterator in iterators:
            item = await _next(iterator)
            if item is not _End:
                row = (*row, item)
            elif not strict:
                return
        if len(row) < len(iterators):
            if row:
                raise ValueError("the iterables are of different lengths")
            return
        yield row


async def _next(iterator: Iterator[Any] | AsyncIterator[Any]) -> Any:
    if isinstance(iterator, AsyncIterator):
        return await anext(iterator, _End)
    return next(iterator, _End)


async def all_rows(sources: tuple[Source, ...], *, strict: bool = False) -> list[tuple[Any, ...]]:
    if any(isinstance(source, AsyncIterable) for source in sources):
        return [row async for row in rows(sources, strict=strict)]
    return list(zip(*sources, strict=strict))


async def all_of(source: Source) -> list[Any]:
    if isinstance(source, AsyncIterable):
        return [item async for item in source]
    return list(source)
