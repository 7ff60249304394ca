"""The pool for threads."""

from __future__ import annotations

from time import monotonic
from typing import TypeVar

from .base import BasePool, run

T = TypeVar("T")


class CachePool(BasePool[T]):
    """Keeps objects that are costly to make, and lends them again. For any number of threads; nobody ever waits.

    Args:
        generator: makes an element when none is idle, in the thread that calls `get`.
        generator_args, generator_argkw: the arguments for it, a list and a dict.
        close_callback: called with an element that is not kept: the pool is full, or it is broken, too old or unfit.
        pool_size: the most idle elements; 0 or less is no limit. Lent ones are not counted.
        max_idle: seconds (float or timedelta). An element that was idle longer is closed instead of lent. `get`, `put`
            and `prune` look for such elements; no thread does. None: no limit.
        validator: called with an idle element before it is lent. Where it returns a false value or raises an
            `Exception`, the element is closed, and another one is lent.
        lifo: lend the element that came back last, so that unused ones grow old; else the one that came back first.

    Raises:
        CachePoolGeneratorError: the generator is not callable.
        TypeError, ValueError: another argument is invalid.

    An error of `generator` or `close_callback` reaches the caller of the method that called it. A forked child begins
    with an empty pool: it neither lends nor closes its parent's elements.

    Example:
        >>> from cachify_tasks.cachepool import CachePool
        >>> pool = CachePool(bytearray, generator_args=[1024], pool_size=8)
        >>> buffer = pool.get()
        >>> pool.put(buffer)
        >>> pool.get() is buffer, pool.stat
        (True, {'new': 1, 'get': 2, 'put': 1})
    """

    def get(self) -> T:
        """An element that nobody else has: an idle one, or else a new one. Return it with `put` or `close`.

        Raises:
            CachePoolError: the pool is closed. An error of the generator comes as it is, and nothing is counted.
        """
        try:
            record = self._idle.pop()
        except IndexError:
            pass
        else:
            if not self._checks_idle:  # `_lend`, without the call
                element: T = record.element
                record.element = None
                record.gets += 1
                record.lent = True
                return element
            fit = run(self._first_fit(record))
            if fit is not None:
                return self._lend(fit)
        self._check_open()
        element = self._generator(*self._args, **self._argkw)
        self._records.add(element)
        return element

    def put(self, element: T) -> None:
        """Give an element back. If the pool is full, it is closed, and not counted.

        Raises:
            CachePoolError: it is not lent: it was given back or closed before, or the pool has not made it.
        """
        try:  # `_claim`, without the call
            record = self._known[id(element)]
            del record.lent
        except (KeyError, AttributeError):
            record = None
        if record is None:
            record = self._claim_other(element)
            if record is None:
                return
        record.element = element
        if self._sweeps:
            record.since = monotonic()
        try:
            self._idle.insert(self._end, record)
        except IndexError:
            pass
        else:
            if self._sweeps:
                run(self._close_each(self._pop_stale))
            return
        self._dispose(record, element, record.gets - 1)

    def close(self, element: T) -> None:
        """Close an element instead of giving it back: it is broken.

        Raises:
            CachePoolError: it is not lent, as for `put`.
        """
        record = self._claim(element)
        if record is not None:
            self._dispose(record, element, record.gets - 1)

    def clear(self) -> int:
        """Close the idle elements; how many they were.

        Raises:
            ExceptionGroup: `close_callback` failed; the other elements are closed all the same.
        """
        return run(self._close_each(self._pop_all()))

    def prune(self) -> int:
        """Close the elements that were idle longer than `max_idle`; how many they were. Raises like `clear`."""
        return run(self._close_each(self._pop_stale))

    def close_all(self) -> int:
        """Close the pool: its idle elements now, the lent ones as they are given back; how many were idle.

        After it `get` raises `CachePoolError`. A second call closes what an interrupted one has left. Raises like
        `clear`.
        """
        self._shut()
        return run(self._close_each(self._pop_stale))
