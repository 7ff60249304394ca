"""Elements that know whether they are closed, and an async pool whose methods are called like the other one's."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import ModuleType, TracebackType
from typing import Any

from cachify_tasks import cachepool


class Thing:
    """An element: closed at most once."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False

    def __eq__(self, other: object) -> bool:  # elements differ by identity only
        return isinstance(other, Thing)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Thing({self.number})"


class Things:
    """Makes things and pools of them; in the end everything that was made must be closed, or named as forgotten."""

    def __init__(self, kind: str = "threads", package: ModuleType = cachepool) -> None:
        self.kind, self.package = kind, package
        self.made: list[Thing] = []
        self.calls: Counter[str] = Counter()
        self.forgotten: list[int] = []
        self.pools: list[Any] = []
        self.loop = asyncio.new_event_loop() if kind == "coroutines" else None

    def make(self, *args: object, **argkw: object) -> Thing:
        self.made.append(Thing(len(self.made)))
        return self.made[-1]

    def close(self, thing: Thing) -> None:
        assert not thing.closed, f"{thing} is closed twice"
        thing.closed = True

    def pool(self, generator: Any = None, close_callback: Any = None, **options: Any) -> Any:
        """A pool of things; its functions are coroutine functions where it is the async one."""
        functions = {"generator": generator or self.make, "close_callback": close_callback or self.close}
        functions |= {name: options.pop(name) for name in ("validator",) if name in options}
        if self.loop is None:
            pool: Any = self.package.CachePool(**functions, **options)
        else:
            pool = Awaited(
                self.loop,
                self.package.AsyncCachePool(**{name: awaited(f) for name, f in functions.items()}, **options),
            )
        self.pools.append(pool)
        return pool

    def wrapper(self, pool: Any, reuse_decider: Any = None) -> Any:
        if self.loop is None:
            return self.package.CacheWrapper(pool, reuse_decider)
        decider = reuse_decider and awaited(reuse_decider)
        return AwaitedWrapper(self.loop, self.package.AsyncCacheWrapper(pool.pool, decider))

    def open(self) -> list[int]:
        return [thing.number for thing in self.made if not thing.closed]

    def end(self) -> None:
        """Nothing is lent any more: all are closed but those that were forgotten on purpose."""
        try:
            for pool in self.pools:
                pool.close_all()
                assert pool.queue.qsize() == 0
            assert self.open() == self.forgotten, "left open"
        finally:
            if self.loop is not None:
                self.loop.close()


def awaited(function: Any) -> Any:
    async def later(*args: Any, **argkw: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **argkw)

    return later


class Awaited:
    """An async pool whose methods are called without `await`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any) -> None:
        self.loop, self.pool = loop, pool

    def __getattr__(self, name: str) -> Any:
        if name in {"stat", "queue"}:
            return getattr(self.pool, name)
        return lambda *args: self.loop.run_until_complete(getattr(self.pool, name)(*args))


class AwaitedWrapper:
    def __init__(self, loop: asyncio.AbstractEventLoop, wrapper: Any) -> None:
        self.loop, self.wrapper = loop, wrapper

    def __enter__(self) -> Any:
        return self.loop.run_until_complete(self.wrapper.__aenter__())

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> Any:
        return self.loop.run_until_complete(self.wrapper.__aexit__(kind, value, trace))
