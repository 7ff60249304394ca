"""What `on_full` can be: how a call is answered that finds its pool full."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ._checks import Seconds, count, milliseconds
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
    """`CachifyPoolFullError`; a task that meets it ends as FAILURE, or is retried by its own `autoretry_for`.

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
    """Not run. A function returns `result` (None if not given); a task ends as REVOKED, or, with `result` given, as
    SUCCESS with it, and chords and chains go on.

    Example:
        >>> from cachify_tasks import Drop, pooled
        >>> @pooled(key="ping-{host}", max_size=1, on_full=Drop(result=False))
        ... def ping(host: str) -> bool: ...
    """

    result: Any = UNSET

    def decide(self, full: FullPool) -> Decision:
        return Skip(self.result)

    def keeps(self) -> Recall | None:
        return None


class Reschedule:
    """Sent again after a delay that grows: a task keeps its id, its retries and its place in chain, group and chord,
    and shows the state RETRY. A plain call cannot be sent again and raises `CachifyPoolFullError`.

    Args:
        delay: seconds before the first new try, at least 0.01.
        factor: each further delay is this much longer, at least 1.
        max_delay: seconds; no delay is longer. Keep it well below the broker's visibility timeout.
        jitter: spread each delay at random between half of it and all of it.
        max_attempts: put off at most this often; None: no limit.
        then: the strategy after `max_attempts`; `Raise()` if not given.

    Raises:
        TypeError, ValueError: a value cannot be taken; the message names it.

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
        then: Any = UNSET,
    ) -> None:
        self.delay_ms = milliseconds("delay", delay, minimum=10)
        self.max_delay_ms = milliseconds("max_delay", max_delay, minimum=10)
        if self.max_delay_ms < self.delay_ms:
            raise ValueError(f"max_delay must be at least delay ({delay!r}), not {max_delay!r}")
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            raise TypeError(f"factor must be a number of at least 1, not {factor!r}")
        if not 1 <= factor < float("inf"):
            raise ValueError(f"factor must be a number of at least 1, not {factor!r}")
        if not isinstance(jitter, bool):
            raise TypeError(f"jitter must be True or False, not {jitter!r}")
        if max_attempts is not None:
            count("max_attempts", max_attempts)
        elif then is not UNSET:
            raise ValueError("then needs max_attempts: without it a task is rescheduled for ever")
        self.factor, self.jitter, self.max_attempts = factor, jitter, max_attempts
        self.then: Strategy = Raise() if then is UNSET else as_strategy(then)  # type: ignore[assignment]
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
    """Parked in the pool's queue, in order of arrival, at no cost; it runs as soon as a slot is handed over to it.

    The store keeps the message, so nothing is lost with a worker, and no worker polls. For Celery tasks; a plain call
    cannot be parked and raises `CachifyPoolFullError`.

    Args:
        max_parked: at most so many tasks wait in a pool; None: no limit.
        max_age: seconds; a task that has waited longer when its turn comes does not run; None: no limit.
        then: the strategy of tasks beyond `max_parked` or `max_age`; `Reschedule()` if not given.
        priority: a callable that gets the call's own arguments and gives 0 to 255, where a higher one goes first (it
            runs in the worker's main process: keep it quick); or "message", the priority that the message was sent
            with, in its broker's order. None: first come, first served, as within one priority.

    Raises:
        TypeError, ValueError: a value cannot be taken; the message names it.

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
        then: Any = UNSET,
        priority: Callable[..., int] | str | None = None,
    ) -> None:
        if max_parked is not None:
            max_parked = count("max_parked", max_parked)
        age = 0 if max_age is None else milliseconds("max_age", max_age)
        if priority not in (None, "message") and not callable(priority):
            raise ValueError(f"priority must be a callable, 'message' or None, not {priority!r}")
        if then is not UNSET and max_parked is None and max_age is None:
            raise ValueError("then needs max_parked or max_age: without them every task is parked")
        then = Reschedule() if then is UNSET else as_strategy(then, called="then")
        if then is None or parking_of(then) or waiting_of(then):
            raise ValueError(
                f"then must be a strategy that does not park or wait, such as Reschedule() or Drop(), not {then!r}"
            )
        self.parking = Parking(then, max_parked or 0, age, priority)

    def decide(self, full: FullPool) -> Decision:
        return RaiseFull("it can be parked only by a worker, and this call is not made by one")

    def keeps(self) -> Recall | None:
        return self.parking.then.keeps()

    def __repr__(self) -> str:
        return f"Park(max_parked={self.parking.max_parked or None}, max_age={self.parking.max_age_ms / 1000 or None})"


class Wait:
    """Waits for a slot where it was called, in the pool's queue, in order of arrival; woken, not polling.

    For functions and coroutine functions. A task would keep its worker waiting: a worker refuses it, see `Park`.

    Args:
        timeout: seconds to wait at most, then `CachifyPoolFullError`; 0: do not wait; None: for ever.

    Raises:
        TypeError, ValueError: a value cannot be taken; the message names it.

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
    """The last good result of that function with those arguments; never that of another call.

    Args:
        ttl: seconds that a result is kept after each success; None: until the next one replaces it.
        default: the answer while there is no result; not given: `CachifyPoolFullError`.
        key: a template as in `pooled` that names the results; None: the function and all its arguments, which then must
            be picklable.

    Results are pickled: whoever can write to the store can run code where they are read.

    Example:
        >>> from cachify_tasks import CachedFallback, pooled
        >>> @pooled(key="search", max_size=5, on_full=CachedFallback(ttl=300, default=[]))
        ... def search(words: str) -> list[str]: ...
    """

    __slots__ = ("recall",)

    def __init__(self, ttl: Seconds | None = None, default: Any = UNSET, key: str | None = None) -> None:
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
    """What a callable makes of exactly the call's own arguments; a plain callable as `on_full` means this.

    In a worker it runs where the task would have run. Its errors are the call's.

    Example:
        >>> from cachify_tasks import Callback, pooled
        >>> @pooled(key="mail", max_size=10, on_full=Callback(lambda user: f"later, {user}"))
        ... def mail(user: str) -> str: ...
    """

    function: Callable[..., Any]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"a callback must be callable, not {self.function!r}")

    def decide(self, full: FullPool) -> Decision:
        return Invoke(self.function)

    def keeps(self) -> Recall | None:
        return None


NAMED: Final[dict[str, Callable[[], Strategy]]] = {
    "raise": Raise,
    "drop": Drop,
    "reschedule": Reschedule,
    "park": Park,
    "cached_fallback": CachedFallback,
}


def as_strategy(value: Any, *, called: str = "on_full", names: bool = False) -> Strategy | Unset | None:
    """The strategy that a user's value means; None and UNSET stay.

    Raises:
        CachifySettingError: it is none; the message lists what is valid.
    """
    if value is None or value is UNSET:
        return value
    if isinstance(value, str) and names:
        made = NAMED.get(value.strip().lower().replace("-", "_"))
        if made is not None:
            return made()
    # By name they are for tasks alone, which cannot take Wait().
    valid = "a strategy such as Park(), Raise(), Drop(), Reschedule(), CachedFallback(), " + (
        f"a callable, or one of the names {', '.join(NAMED)}" if names else "Wait(), a callable, or None"
    )
    if isinstance(value, type):
        raise CachifySettingError(f"{called} must be {valid}; {value.__name__} is a class: write {value.__name__}()")
    if isinstance(value, Strategy):
        return value
    if callable(value):
        return Callback(value)
    raise CachifySettingError(f"{called} must be {valid}, not {value!r}")
