"""Objects that are costly to make are kept in this process and lent again. Needs no store and no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import CachePoolError, CachePoolGeneratorError
from .threads import CachePool
from .wrappers import CacheWrapper, make_wrapper

if TYPE_CHECKING:
    from .coroutines import AsyncCachePool, AsyncCacheWrapper

__all__ = [
    "AsyncCachePool",
    "AsyncCacheWrapper",
    "CachePool",
    "CachePoolError",
    "CachePoolGeneratorError",
    "CacheWrapper",
    "make_wrapper",
]


def __getattr__(name: str) -> Any:
    """Import the async pool when it is used: asyncio is slow to import."""
    if name in {"AsyncCachePool", "AsyncCacheWrapper"}:
        from . import coroutines

        return getattr(coroutines, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
