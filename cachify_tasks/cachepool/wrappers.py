"""An element for the length of a `with` block."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from .base import BasePool, check_callable
from .errors import CachePoolError
from .flows import drive, failed
from .threads import CachePool

if TYPE_CHECKING:
    from .coroutines import AsyncCachePool, AsyncCacheWrapper

T = TypeVar("T")
Decider = Callable[[Any, Any, Any], Any]


class BaseWrapper(Generic[T]):
    """Who is in the block, and with what; it may be entered again, also by others at the same time."""

    __slots__ = ("_decider", "_inside", "_pool")

    def __init__(self, pool: Any, reuse_decider: Decider | None) -> None:
        self._decider = check_callable("reuse_decider", reuse_decider)
        self._pool = pool
        self._inside: dict[object, list[T]] = {}

    def _enter(self, who: object, element: T) -> T:
        self._inside.setdefault(who, []).append(element)
        return element

    def _leave(self, who: object) -> T:
        inside = self._inside
        if who not in inside:  # a generator may be ended elsewhere than it was begun
            who = next(reversed(inside.copy()), None)
        stack = inside.get(who)
        if not stack:
            raise CachePoolError("the wrapper is left more often than it was entered")
        element = stack.pop()
        if not stack:
            inside.pop(who, None)
        return element

    def _top(self, who: object) -> T | None:
        stack = self._inside.get(who)
        return stack[-1] if stack else None


class CacheWrapper(BaseWrapper[T]):
    """Lends an element of a pool for a `with` block.

    Args:
        pool: a `CachePool`.
        reuse_decider: called with the type, value and traceback of an error that ends the block. What it answers with
            true puts the element back; else, or if it fails, the element is closed. None: always closed.

    Raises:
        TypeError: a value that cannot be taken.

    The error goes on in any case; what fails while the element is returned becomes a note on it.

    Example:
        >>> from cachify_tasks.cachepool import CachePool, CacheWrapper
        >>> pool = CachePool(dict)
        >>> with CacheWrapper(pool) as element:
        ...     element["used"] = True
        >>> pool.get()
        {'used': True}
    """

    __slots__ = ()

    def __init__(self, pool: CachePool[T], reuse_decider: Decider | None = None) -> None:
        if not isinstance(pool, CachePool):
            raise TypeError(f"pool={pool!r}: give a CachePool")
        super().__init__(pool, reuse_decider)

    @property
    def element(self) -> T | None:
        """What this thread has been lent by this wrapper; None outside of the block."""
        return self._top(get_ident())

    def __enter__(self) -> T:
        return self._enter(get_ident(), self._pool.get())

    def __exit__(self, *error: Any) -> None:
        element = self._leave(get_ident())
        if error[0] is None:
            self._pool.put(element)
        else:
            drive(failed(self._pool, element, self._decider, error))


@overload
def make_wrapper(pool: CachePool[T], reuse_decider: Decider | None = None) -> Callable[[], CacheWrapper[T]]: ...
@overload
def make_wrapper(
    pool: AsyncCachePool[T], reuse_decider: Decider | None = None
) -> Callable[[], AsyncCacheWrapper[T]]: ...
def make_wrapper(pool: Any, reuse_decider: Decider | None = None) -> Any:
    """A function without arguments that gives a `CacheWrapper`, of an async pool an `AsyncCacheWrapper`.

    Args:
        pool, reuse_decider: as for `CacheWrapper`.

    Raises:
        TypeError: a value that cannot be taken.

    Example:
        >>> from cachify_tasks.cachepool import CachePool, make_wrapper
        >>> wrapper = make_wrapper(CachePool(list))
        >>> with wrapper() as element:
        ...     element.append(1)
    """
    kind: type[Any] = CacheWrapper
    if isinstance(pool, BasePool) and not isinstance(pool, CachePool):
        from .coroutines import AsyncCacheWrapper

        kind = AsyncCacheWrapper
    kind(pool, reuse_decider)  # what cannot be taken is refused now

    def wrapper() -> Any:
        return kind(pool, reuse_decider)

    return wrapper
