"""What the two kinds of pool have in common: their options, and what is not the short way of `get` and `put`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import isfinite
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .errors import CachePoolError, CachePoolGeneratorError
from .flows import Flow
from .records import Record, Records
from .stat import Idle, Stat

if TYPE_CHECKING:
    from datetime import timedelta

T = TypeVar("T")


class BasePool(Records, Generic[T]):
    """Elements that are made when none is idle."""

    __slots__ = (
        "_argkw", "_args", "_close_callback", "_closed", "_generator", "_max_idle", "_swept", "_validator", "_vetted",
        "queue",
    )  # fmt: skip

    def __init__(
        self,
        generator: Callable[..., T],
        generator_args: Iterable[Any] | None = None,
        generator_argkw: Mapping[Any, Any] | None = None,
        close_callback: Callable[[T], Any] | None = None,
        pool_size: int = 1024,
        *,
        max_idle: float | timedelta | None = None,
        validator: Callable[[T], Any] | None = None,
        lifo: bool = False,
    ) -> None:
        check_generator(generator)
        check_size(pool_size)
        check_switch("lifo", lifo)
        self._generator: Callable[..., Any] = generator
        try:
            self._args = tuple(generator_args or ())
        except TypeError:
            raise TypeError(f"generator_args={generator_args!r}: give a list of arguments, or None") from None
        try:
            self._argkw = dict(generator_argkw or {})
        except (TypeError, ValueError):
            raise TypeError(f"generator_argkw={generator_argkw!r}: give a dict of arguments, or None") from None
        self._close_callback = check_callable("close_callback", close_callback)
        self._validator = check_callable("validator", validator)
        self._max_idle = check_seconds("max_idle", max_idle)
        self._closed = False
        self._vetted = max_idle is not None or validator is not None  # `get` looks at an idle element
        self._swept = max_idle is not None  # `put` looks at the others
        super().__init__(pool_size, lifo)
        self.queue = Idle(self._idle)

    @property
    def stat(self) -> Stat:
        """How many elements were made (`new`), lent (`get`, new ones too) and taken back (`put`); live, read only."""
        return Stat(self)

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"<{type(self).__name__} of {self._generator!r}: {len(self._idle)} idle, {self.stat!r}{closed}>"

    def _check_open(self) -> None:
        if self._closed:
            raise CachePoolError("the pool is closed: after close_all() it lends nothing; make another one")

    def _returned(self, element: T) -> Record | None:
        """Claim what the short way has not found lent; None: it came with a fork, and is neither kept nor closed."""
        record = self._twin(element)
        if record is not None:
            return record
        if id(element) in self._inherited:
            self._inherited.discard(id(element))
            return None
        if self._is_idle(element):
            raise CachePoolError(f"{element!r} was returned already: it is idle in the pool")
        raise CachePoolError(
            f"{element!r} is not lent out by this pool: it was returned or closed before, or the pool has not made it; "
            "give put() or close() what get() has given, once"
        )

    def _claimed(self, element: T) -> Record | None:
        """`_returned`, with the short way in front."""
        try:
            record = self._known[id(element)]
            del record.lent
        except (KeyError, AttributeError):
            pass
        else:
            return record
        return self._returned(element)

    def _pop(self) -> Record | None:
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

    def _dispose(self, record: Record, element: T, puts: int) -> Any:
        """Forget it and close it; the answer is what `close_callback` gives."""
        self._retire(record, puts)
        return self._close_callback(element) if self._close_callback is not None else None

    def _ending(self, record: Record) -> Callable[[], Any]:
        """The step that closes an element that was idle."""
        return partial(self._dispose, record, record.element, record.gets)

    def _fit(self, record: Record) -> Flow[Record | None]:
        """This idle element or the next one that may be lent; the others are closed. None: there is none."""
        found: Record | None = record
        while found is not None:
            if self._max_idle is None or monotonic() - found.since < self._max_idle:
                fit = self._validator is None
                try:
                    if self._validator is not None:
                        answer = yield partial(self._validator, found.element)
                        fit = bool(answer)
                except Exception:  # noqa: BLE001  # a validator may say no like this, too
                    fit = False
                except BaseException:  # interrupted in the middle: nobody knows its state
                    yield self._ending(found)
                    raise
                if fit:
                    return found
            yield self._ending(found)
            found = self._pop()
        return None

    def _stale(self) -> Record | None:
        """Take out an idle element that must not stay."""
        if self._closed:
            return self._pop()
        if self._max_idle is None:
            return None
        return self._oldest(monotonic() - self._max_idle)

    def _those_now(self) -> Callable[[], Record | None]:
        """Takes out as many as are idle now."""
        left = iter(range(len(self._idle)))
        return lambda: self._pop() if next(left, None) is not None else None

    def _shut(self) -> None:
        """From now on nothing is lent, and nothing that is put stays."""
        self._closed = self._swept = True


def check_generator(given: Any) -> None:
    if not callable(given):
        error = CachePoolGeneratorError("generator is not callable")
        error.add_note(f"generator={given!r}: give a function or a class that makes an element")
        raise error


def check_size(given: Any) -> None:
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"pool_size={given!r}: give an int, the most idle elements; 0 or less is no limit")


def check_switch(name: str, given: Any) -> None:
    if not isinstance(given, bool):
        raise TypeError(f"{name}={given!r}: give True or False")


def check_callable(name: str, function: Any) -> Any:
    if function is not None and not callable(function):
        raise TypeError(f"{name}={function!r}: give a function, or None")
    return function


def check_seconds(name: str, given: Any) -> float | None:
    if given is None:
        return None
    seconds = given.total_seconds() if hasattr(given, "total_seconds") else given
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"{name}={given!r}: give seconds (a float or a timedelta), or None")
    if not (isfinite(seconds) and seconds > 0):
        raise ValueError(f"{name}={given!r}: give more than 0 seconds, or None")
    return float(seconds)
