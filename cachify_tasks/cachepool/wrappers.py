"""Lend an element for the length of a `with` block."""

from __future__ import annotations

from collections.abc import Callable
from sys import modules
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from .._checks import function
from .base import BasePool, run
from .errors import CachePoolError
from .threads import CachePool

if TYPE_CHECKING:
    from .coroutines import AsyncCachePool, AsyncCacheWrapper

T = TypeVar("T")
Decider = Callable[[object, object, object], object]


class BaseWrapper(Generic[T]):
    """Knows the elements that each thread, greenlet or task has in the block; any number may be in it at once."""

    def __init__(self, pool: Any, reuse_decider: Decider | None) -> None:
        self._decider = None if reuse_decider is None else function("reuse_decider", reuse_decider)
        self._pool = pool
        self._inside: dict[object, list[T]] = {}

    def _enter(self, user: object, element: T) -> T:
        self._inside.setdefault(user, []).append(element)
        return element

    def _leave(self, user: object) -> T:
        inside = self._inside
        if user not in inside:  # a generator may be closed by another thread than the one that has begun it
            user = next(reversed(inside.copy()), None)
        elements = inside.get(user)
        if not elements:
            raise CachePoolError("the wrapper is left more often than it was entered")
        element = elements.pop()
        if not elements:
            inside.pop(user, None)
        return element

    def _innermost(self, user: object) -> T | None:
        elements = self._inside.get(user)
        return elements[-1] if elements else None

    async def _return_after(self, error: tuple[Any, Any, Any], element: T) -> None:
        """The block has raised: put the element back or close it, as the decider says. An interrupted decider closes.

        An error that is raised here becomes a note on the block's own error, which goes on.
        """
        reuse = False
        try:
            if self._decider is not None:
                reuse = bool(await self._pool._result(self._decider(*error)))
        except Exception as raised:  # noqa: BLE001
            error[1].add_note(f"reuse_decider failed, so the element was closed: {raised!r}")
        finally:
            try:
                await self._pool._result(self._pool.put(element) if reuse else self._pool.close(element))
            except Exception as raised:  # noqa: BLE001
                error[1].add_note(f"the element could not be {'put back' if reuse else 'closed'}: {raised!r}")


class CacheWrapper(BaseWrapper[T]):
    """Lends an element of a pool for a `with` block.

    Args:
        pool: a `CachePool`.
        reuse_decider: called with the type, value and traceback of an error that ends the block. Where it returns a
            true value, the element is put back; else, or if it fails, the element is closed. None: always closed.

    Raises:
        TypeError: an argument is invalid.

    The error goes on in any case. Another error while the element is returned becomes a note on it.

    Example:
        >>> from cachify_tasks.cachepool import CachePool, CacheWrapper
        >>> pool = CachePool(dict)
        >>> with CacheWrapper(pool) as element:
        ...     element["used"] = True
        >>> pool.get()
        {'used': True}
    """

    def __init__(self, pool: CachePool[T], reuse_decider: Decider | None = None) -> None:
        if not isinstance(pool, CachePool):
            raise TypeError(f"pool must be a CachePool, not {pool!r}")
        super().__init__(pool, reuse_decider)

    def _user(self) -> object:
        user = current_user()
        return user if user in self._inside else get_ident()  # it has entered before the greenlets were loaded

    @property
    def element(self) -> T | None:
        """The element that this thread or greenlet has in the block; None outside of it."""
        return self._innermost(self._user())

    def __enter__(self) -> T:
        return self._enter(current_user() if "greenlet" in modules else get_ident(), self._pool.get())

    def __exit__(self, *error: Any) -> None:
        element = self._leave(self._user() if "greenlet" in modules else get_ident())
        if error[0] is None:
            self._pool.put(element)
        else:
            run(self._return_after(error, element))


def current_user() -> object:
    """The greenlet that runs this, or the thread if there are no greenlets."""
    # Found at each call, by its name: gevent may be loaded after this module, with threads left as they are, and is not
    # ours to import. Where a thread has no other greenlets, its only one stands for it.
    greenlets = modules.get("greenlet")
    return get_ident() if greenlets is None else getattr(greenlets, "getcurrent", get_ident)()


@overload
def make_wrapper(pool: CachePool[T], reuse_decider: Decider | None = None) -> Callable[[], CacheWrapper[T]]: ...
@overload
def make_wrapper(
    pool: AsyncCachePool[T], reuse_decider: Decider | None = None
) -> Callable[[], AsyncCacheWrapper[T]]: ...
def make_wrapper(pool: Any, reuse_decider: Decider | None = None) -> Any:
    """A function without arguments that makes a `CacheWrapper`, for an async pool an `AsyncCacheWrapper`.

    Args:
        pool, reuse_decider: as for `CacheWrapper`.

    Raises:
        TypeError: an argument is invalid.

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
    kind(pool, reuse_decider)  # invalid arguments are refused now

    def wrapper() -> Any:
        return kind(pool, reuse_decider)

    return wrapper
