"""The strategies: what `on_full` can be, and what each does with a call that finds its pool full."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ._checks import MOST, Seconds, count, flag, milliseconds, number
from ._core.decisions import (
    Decision,
    Defer,
    FullPool,
    Invoke,
    Parking,
    RaiseFull,
    Recall,
    Skip,
    Strategy,
    Waiting,
    parking_of,
    waiting_of,
)
from .errors import CachifySettingError
from .settings import UNSET, Unset

__all__ = [
    "CachedFallback",
    "Callback",
    "Decision",
    "Defer",
    "Drop",
    "FullPool",
    "Invoke",
    "Park",
    "Raise",
    "RaiseFull",
    "Recall",
    "Reschedule",
    "Skip",
    "Strategy",
    "Wait",
]


@dataclass(frozen=True, slots=True)
class Raise:
    """Raise `CachifyPoolFullError`. A task ends as FAILURE with it, or is retried by its own `autoretry_for`.

    Example:
        >>> from cachify_tasks import Raise, pooled
        >>> @pooled(key="reports", max_size=2, on_full=Raise())
        ... def report() -> str: ...
    """

    def decide(self, full: FullPool) -> Decision:
        return RaiseFull()

    def keeps(self) -> Recall | None:
        return None


@dataclass(frozen=True, slots=True)
class Drop:
    """Do not run. A function returns `result` (None if not given). A task ends as REVOKED; with `result` given it ends
    as SUCCESS with that, and chords and chains go on.

    Example:
        >>> from cachify_tasks import Drop, pooled
        >>> @pooled(key="ping-{host}", max_size=1, on_full=Drop(result=False))
        ... def ping(host: str) -> bool: ...
    """

    result: object = UNSET

    def decide(self, full: FullPool) -> Decision:
        return Skip(self.result)

    def keeps(self) -> Recall | None:
        return None

    def __repr__(self) -> str:
        return "Drop()" if self.result is UNSET else f"Drop(result={self.result!r})"


class Reschedule:
    """Send the task again after a growing delay. It keeps its id, its retries and its position in a chain, group or
    chord, and shows the state RETRY. A direct call cannot be sent again and raises `CachifyPoolFullError`.

    Args:
        delay: seconds before the first new try, at least 0.01.
        factor: each further delay is this much longer, at least 1.
        max_delay: seconds; no delay is longer. Keep it well below the broker's visibility timeout.
        jitter: choose each delay at random between half of it and all of it.
        max_attempts: reschedule at most this often; None: no limit.
        then: the strategy after `max_attempts`; `Raise()` if not given.

    Raises:
        TypeError, ValueError: a value cannot be used; the message names it.

    Example:
        >>> from cachify_tasks import Drop, Reschedule, pooled
        >>> @pooled(key="tenant-{t}", max_size=3, on_full=Reschedule(delay=2, max_attempts=20, then=Drop()))
        ... def sync(t: str) -> None: ...
    """

    __slots__ = ("delay_ms", "factor", "jitter", "max_attempts", "max_delay_ms", "then")

    def __init__(
        self,
        delay: Seconds = 1.0,
        factor: float = 2.0,
        max_delay: Seconds = 30.0,
        jitter: bool = True,
        max_attempts: int | None = None,
        then: object = UNSET,
    ) -> None:
        self.delay_ms = milliseconds("delay", delay, minimum=10)
        self.max_delay_ms = milliseconds("max_delay", max_delay, minimum=10)
        if self.max_delay_ms < self.delay_ms:
            raise ValueError(f"max_delay must be at least delay ({delay!r}), not {max_delay!r}")
        self.factor = number("factor", factor, least=1)
        self.jitter = flag("jitter", jitter)
        self.max_attempts = None if max_attempts is None else count("max_attempts", max_attempts)
        if max_attempts is None and then is not UNSET:
            raise ValueError("then needs max_attempts: without it a task is rescheduled for ever")
        self.then = _follow_up(then, Raise())
        if waiting_of(self.then):
            raise ValueError(f"then must be a strategy that does not wait, such as Drop(), not {then!r}")

    def decide(self, full: FullPool) -> Decision:
        if self.max_attempts is not None and full.attempt >= self.max_attempts:
            return self.then.decide(full)
        growth = self.factor ** min(full.attempt, 64)
        delay = min(self.delay_ms * growth, self.max_delay_ms)
        return Defer(max(1, round(delay * random.uniform(0.5, 1.0) if self.jitter else delay)))

    def keeps(self) -> Recall | None:
        return self.then.keeps()

    def __repr__(self) -> str:
        return f"Reschedule(delay={self.delay_ms / 1000:g}, max_attempts={self.max_attempts})"


class Park:
    """Park the task in the pool's queue, in order of arrival; it runs as soon as a slot is handed over to it.

    The store keeps the message, so nothing is lost with a worker, and no worker polls. Only tasks can be parked: a
    direct call raises `CachifyPoolFullError`.

    Args:
        max_parked: the most tasks that wait in a pool; None: no limit.
        max_age: seconds; a task that has waited longer when its turn comes does not run; None: no limit.
        then: the strategy for tasks beyond `max_parked` or `max_age`; `Reschedule()` if not given.
        priority: a callable that gets the call's own arguments and returns 0 to 255: a higher one goes first (it runs
            in the worker's main process: keep it quick); or "message": the priority with which the message was sent,
            in its broker's order. None: first come, first served, as within one priority.

    Raises:
        TypeError, ValueError: a value cannot be used; the message names it.

    Example:
        >>> from cachify_tasks import Drop, Park, pooled
        >>> @pooled(key="tenant-{tenant}", max_size=3, on_full=Park(max_parked=10_000, then=Drop()))
        ... def sync(tenant: str) -> None: ...
    """

    __slots__ = ("parking",)

    def __init__(
        self,
        max_parked: int | None = None,
        max_age: Seconds | None = None,
        then: object = UNSET,
        priority: Callable[..., int] | str | None = None,
    ) -> None:
        if priority not in (None, "message") and not callable(priority):
            raise ValueError(f"priority must be a callable, 'message' or None, not {priority!r}")
        if then is not UNSET and max_parked is None and max_age is None:
            raise ValueError("then needs max_parked or max_age: without them every task is parked")
        following = _follow_up(then, Reschedule())
        if parking_of(following) or waiting_of(following):
            raise ValueError(
                f"then must be a strategy that does not park or wait, such as Reschedule() or Drop(), not {then!r}"
            )
        self.parking = Parking(
            following,
            max_parked=0 if max_parked is None else count("max_parked", max_parked, most=MOST),
            max_age_ms=0 if max_age is None else milliseconds("max_age", max_age),
            priority=priority,
        )

    def decide(self, full: FullPool) -> Decision:
        return RaiseFull("it can be parked only by a worker, and this call is not made by one")

    def keeps(self) -> Recall | None:
        return self.parking.then.keeps()

    def __repr__(self) -> str:
        return f"Park(max_parked={self.parking.max_parked or None}, max_age={self.parking.max_age_ms / 1000 or None})"


class Wait:
    """Wait for a slot in the pool's queue, in order of arrival. The caller is blocked, and woken without polling.

    For functions and coroutine functions. A task would keep its worker waiting, so a worker refuses it: see `Park`.

    Args:
        timeout: the longest wait in seconds, then `CachifyPoolFullError`; 0: do not wait; None: no limit.

    Raises:
        TypeError, ValueError: a value cannot be used; the message names it.

    Example:
        >>> from cachify_tasks import Wait, pooled
        >>> @pooled(key="tenant-{tenant}", max_size=3, on_full=Wait(timeout=5))
        ... def fetch(tenant: str) -> str: ...
    """

    __slots__ = ("waiting",)

    def __init__(self, timeout: Seconds | None = None) -> None:
        self.waiting = Waiting(None if timeout is None else milliseconds("timeout", timeout, minimum=0))

    def decide(self, full: FullPool) -> Decision:
        return RaiseFull(self.waiting.describe())

    def keeps(self) -> Recall | None:
        return None

    def __repr__(self) -> str:
        timeout_ms = self.waiting.timeout_ms
        return f"Wait(timeout={None if timeout_ms is None else timeout_ms / 1000})"


class CachedFallback:
    """Return the last good result of that function with those arguments; never that of another call.

    Results are pickled: whoever can write to the store can run code where they are read.

    Args:
        ttl: seconds that a result is kept after each success; None: until the next one replaces it.
        default: what to return while there is no result; not given: raise `CachifyPoolFullError`.
        key: a template as in `pooled` that names the results; None: the function and all its arguments, which then must
            be picklable.

    Raises:
        TypeError, ValueError: a value cannot be used; the message names it.

    Example:
        >>> from cachify_tasks import CachedFallback, pooled
        >>> @pooled(key="search", max_size=5, on_full=CachedFallback(ttl=300, default=[]))
        ... def search(words: str) -> list[str]: ...
    """

    __slots__ = ("recall",)

    def __init__(self, ttl: Seconds | None = None, default: object = UNSET, key: str | None = None) -> None:
        named: object = key
        if named is not None and (not isinstance(named, str) or not named):
            raise ValueError(f"key must be a template, or None, not {key!r}")
        self.recall = Recall(None if ttl is None else milliseconds("ttl", ttl), default, key)

    def decide(self, full: FullPool) -> Decision:
        return self.recall

    def keeps(self) -> Recall | None:
        return self.recall

    def __repr__(self) -> str:
        return f"CachedFallback({self.recall})"


@dataclass(frozen=True, slots=True)
class Callback:
    """Return what a callable returns for exactly the call's own arguments; a bare callable as `on_full` means this.

    In a worker it runs where the task would have run. Its errors are those of the call.

    Example:
        >>> from cachify_tasks import Callback, pooled
        >>> @pooled(key="mail", max_size=10, on_full=Callback(lambda user: f"later, {user}"))
        ... def mail(user: str) -> str: ...
    """

    function: Callable[..., object]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"a callback must be callable, not {self.function!r}")

    def decide(self, full: FullPool) -> Decision:
        return Invoke(self.function)

    def keeps(self) -> Recall | None:
        return None

    def __repr__(self) -> str:
        return f"Callback({getattr(self.function, '__qualname__', repr(self.function))})"


Refusing: TypeAlias = Literal["raise", "reschedule", "park", "cached_fallback"]  # names: a direct call never gets None
NAMED: Final[dict[str, Callable[[], Strategy]]] = {
    "raise": Raise,
    "drop": Drop,
    "reschedule": Reschedule,
    "park": Park,
    "cached_fallback": CachedFallback,
}


def as_strategy(value: object, *, called: str = "on_full") -> Strategy | Unset | None:
    """The strategy that a user's value means, or the name of one ("drop"); None and UNSET stay.

    Args:
        called: the option, as messages name it.

    Raises:
        CachifySettingError: it is none; the message lists what is valid.
    """
    if value is None or isinstance(value, Unset):
        return value
    if isinstance(value, str):
        made = NAMED.get(value.strip().lower().replace("-", "_"))
        if made is not None:
            return made()
    valid = (
        "a strategy such as Park(), Raise(), Drop(), Reschedule(), CachedFallback(), Wait(), a callable, None, or one "
        f"of the names {', '.join(NAMED)}"
    )
    if isinstance(value, type):
        raise CachifySettingError(f"{called} must be {valid}; {value.__name__} is a class: write {value.__name__}()")
    if isinstance(value, Strategy):
        return value
    if callable(value):
        return Callback(value)
    raise CachifySettingError(f"{called} must be {valid}, not {value!r}")


def _follow_up(then: object, default: Strategy) -> Strategy:
    """The strategy that `then` means, in a strategy that gives up at some point."""
    if then is UNSET:
        return default
    strategy = as_strategy(then, called="then")
    if strategy is None or isinstance(strategy, Unset):
        raise ValueError(f"then must be a strategy such as Drop(), not {then!r}")
    return strategy
