"""The pool for threads."""

from __future__ import annotations

from time import monotonic
from typing import TypeVar

from .base import BasePool
from .flows import drive, emptying

T = TypeVar("T")


class CachePool(BasePool[T]):
    """Keeps objects that are costly to make, and lends them again. For any number of threads; nobody ever waits.

    Args:
        generator: makes an element when none is idle, in the thread that asks.
        generator_args, generator_argkw: what it is called with; a list and a dict.
        close_callback: called with an element that is not kept: the pool is full, it is broken, too old or unfit.
        pool_size: the most idle elements; 0 or less is no limit. Lent ones are not counted.
        max_idle: seconds (float or timedelta). What was idle longer is closed instead of lent; `get`, `put` and
            `prune` look at it, no thread does. None: for ever.
        validator: called with an idle element before it is lent. What it refuses, by a false answer or an
            `Exception`, is closed, and another one is lent.
        lifo: lend what came back last, so that unused ones grow old; else what came back first.

    Raises:
        CachePoolGeneratorError: the generator is not callable.
        TypeError, ValueError: another value that cannot be taken.

    What `generator` and `close_callback` raise reaches who called the method that called them. A forked child begins
    with an empty pool: it neither lends nor closes what its parent had.

    Example:
        >>> from cachify_tasks.cachepool import CachePool
        >>> pool = CachePool(bytearray, generator_args=[1024], pool_size=8)
        >>> buffer = pool.get()
        >>> pool.put(buffer)
        >>> pool.get() is buffer, pool.stat
        (True, {'new': 1, 'get': 2, 'put': 1})
    """

    __slots__ = ()

    def get(self) -> T:
        """An element that nobody else has: an idle one, or else a new one. Return it by `put` or `close`.

        Raises:
            CachePoolError: the pool is closed. Errors of the generator come as they are; nothing is counted then.
        """
        try:
            record = self._idle.pop()
        except IndexError:
            pass
        else:
            if not self._vetted:  # `_lend`, without the call
                element: T = record.element
                record.element = None
                record.gets += 1
                record.lent = True
                return element
            fit = drive(self._fit(record))
            if fit is not None:
                return self._lend(fit)
        self._check_open()
        element = self._generator(*self._args, **self._argkw)
        self._enrol(element)
        return element

    def put(self, element: T) -> None:
        """Give an element back. If the pool is full, it is closed, and not counted.

        Raises:
            CachePoolError: it is not lent: it was given back or closed before, or the pool has not made it.
        """
        try:
            record = self._known[id(element)]
            del record.lent
        except (KeyError, AttributeError):
            record = None
        if record is None:
            record = self._returned(element)
            if record is None:
                return
        record.element = element
        if self._swept:
            record.since = monotonic()
        try:
            self._idle.insert(self._end, record)
        except IndexError:
            pass
        else:
            if self._swept:
                drive(emptying(self._stale, self._ending))
            return
        self._dispose(record, element, record.gets - 1)

    def close(self, element: T) -> None:
        """Close an element instead of giving it back: it is broken.

        Raises:
            CachePoolError: it is not lent, as for `put`.
        """
        record = self._claimed(element)
        if record is not None:
            self._dispose(record, element, record.gets - 1)

    def clear(self) -> int:
        """Close the idle elements; how many they were.

        Raises:
            ExceptionGroup: `close_callback` failed; the other elements are closed all the same.
        """
        return drive(emptying(self._those_now(), self._ending))

    def prune(self) -> int:
        """Close what has been idle longer than `max_idle`; how many they were. Raises like `clear`."""
        return drive(emptying(self._stale, self._ending))

    def close_all(self) -> int:
        """Close the pool: its idle elements now, the lent ones as they are given back; how many were idle.

        After it `get` raises `CachePoolError`. A second time it closes what an interrupt has left. Raises like `clear`.
        """
        self._shut()
        return drive(emptying(self._stale, self._ending))
