"""What both kinds of pool share: their options, and everything but the short ways of `get` and `put`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any, Generic, TypeVar

from .._checks import Seconds, arguments, flag, function, integer, seconds
from .errors import CachePoolError, CachePoolGeneratorError
from .records import Record, Records
from .stat import Stat

T = TypeVar("T")


class BasePool(Generic[T]):
    """Elements that are made when none is idle.

    Whatever calls the user's functions and is not on a short way is written here once, as a coroutine. `AsyncCachePool`
    awaits it. In `CachePool` nothing ever suspends it, so `run` executes it like a function.
    """

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
    ) -> None:
        made_by: object = generator
        if not callable(made_by):
            error = CachePoolGeneratorError("generator is not callable")
            error.add_note(f"generator must be a function or a class that makes an element, not {generator!r}")
            raise error
        self._generator: Callable[..., Any] = generator
        self._args = arguments("generator_args", generator_args)
        try:
            self._argkw = dict(() if generator_argkw is None else generator_argkw)
        except (TypeError, ValueError):
            raise TypeError(f"generator_argkw must be a dict or None, not {generator_argkw!r}") from None
        self._close_callback = None if close_callback is None else function("close_callback", close_callback)
        self._validator = None if validator is None else function("validator", validator)
        self._max_idle = None if max_idle is None else seconds("max_idle", max_idle, exclusive=True)
        self._closed = False
        self._checks_idle = max_idle is not None or validator is not None  # does `get` check an idle element?
        self._sweeps = max_idle is not None  # does `put` look for idle elements that must go?
        self._records = Records(integer("pool_size", pool_size), flag("lifo", lifo))
        self._idle = self._records.idle
        self._known = self._records.known
        self._end = self._records.end
        self.queue = Queue(self._idle)

    @property
    def stat(self) -> Stat:
        """How many elements were made (`new`), lent (`get`, new ones too) and put back (`put`); live, read only."""
        return Stat(self._records)

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"<{type(self).__name__} of {self._generator!r}: {len(self._idle)} idle, {self.stat!r}{closed}>"

    def _check_open(self) -> None:
        if self._closed:
            raise CachePoolError("the pool is closed: after close_all() it lends nothing; make another one")

    def _claim(self, element: T) -> Record | None:
        """Make a lent element's record the caller's own; None: the element is inherited, and neither kept nor closed.

        Raises:
            CachePoolError: it is not lent.
        """
        try:
            record = self._known[id(element)]
            del record.lent
        except (KeyError, AttributeError):
            pass
        else:
            return record
        return self._claim_other(element)

    def _claim_other(self, element: T) -> Record | None:
        """`_claim` for an element whose first record is not lent."""
        record = self._records.claim_duplicate(element)
        if record is not None:
            return record
        if id(element) in self._records.inherited:
            self._records.inherited.discard(id(element))
            return None
        if self._records.is_idle(element):
            raise CachePoolError(f"{element!r} was returned already: it is idle in the pool")
        raise CachePoolError(
            f"{element!r} is not lent out by this pool: it was returned or closed before, or the pool has not made it; "
            "give put() or close() what get() has given, once"
        )

    def _pop_idle(self) -> Record | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _lend(self, record: Record) -> T:
        element: T = record.element
        record.element = None
        record.gets += 1
        record.lent = True
        return element

    def _dispose(self, record: Record, element: T, puts: int) -> object:
        """Forget an element and close it; what `close_callback` returns."""
        self._records.remove(record, puts)
        return self._close_callback(element) if self._close_callback is not None else None

    async def _result(self, returned: Any) -> Any:
        """The result of a user's function, given what it has returned. `AsyncCachePool` awaits it."""
        return returned

    async def _first_fit(self, record: Record) -> Record | None:
        """This idle element or the next one that may be lent; the others are closed. None: there is none."""
        found: Record | None = record
        while found is not None and not await self._is_fit(found):
            await self._close_idle(found)
            found = self._pop_idle()
        return found

    async def _is_fit(self, record: Record) -> bool:
        if self._max_idle is not None and monotonic() - record.since >= self._max_idle:
            return False
        if self._validator is None:
            return True
        try:
            return bool(await self._result(self._validator(record.element)))
        except Exception:  # noqa: BLE001  # a validator may refuse by raising
            return False
        except BaseException:  # interrupted or cancelled: nobody knows the element's state
            await self._close_idle(record)
            raise

    async def _close_idle(self, record: Record) -> None:
        await self._result(self._dispose(record, record.element, record.gets))

    async def _close_each(self, pop: Callable[[], Record | None]) -> int:
        """Close the idle elements that `pop` takes out, and go on where closing one fails; how many they were.

        Raises:
            ExceptionGroup: `close_callback` failed.
        """
        closed = 0
        errors = []
        while (record := pop()) is not None:
            closed += 1
            try:
                await self._close_idle(record)
            except Exception as error:  # noqa: BLE001  # raised below
                errors.append(error)
        if errors:
            raise ExceptionGroup(f"close_callback failed for {len(errors)} of {closed} elements", errors)
        return closed

    def _pop_all(self) -> Callable[[], Record | None]:
        """A function that takes out as many as are idle now, one by one."""
        return partial(next, islice(iter(self._pop_idle, None), len(self._idle)), None)

    def _pop_stale(self) -> Record | None:
        """Take out an idle element that is too old; any one if the pool is closed."""
        if self._closed:
            return self._pop_idle()
        return None if self._max_idle is None else self._records.pop_older(monotonic() - self._max_idle)

    def _shut(self) -> None:
        """From now on nothing is lent, and `put` closes what it has put back."""
        self._closed = True
        self._sweeps = True


class Queue:
    """The elements that wait to be lent."""

    def __init__(self, idle: deque[Record]) -> None:
        self._idle = idle

    def qsize(self) -> int:
        """How many they are."""
        return len(self._idle)


def run(coroutine: Coroutine[object, object, T]) -> T:
    """Execute a coroutine that never suspends; what it returns."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("a coroutine of a CachePool has suspended")
