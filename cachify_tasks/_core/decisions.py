"""What a strategy can decide when a pool is full: a closed union, so that each framework can act on all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from ..errors import CachifyPoolFullError
from ..settings import UNSET


@dataclass(frozen=True, slots=True)
class FullPool:
    """What a strategy gets.

    Attributes:
        held: how many slots of the pool are taken.
        attempt: how often this call was put off before (a header calls it deferrals).
    """

    key: str
    limit: int
    held: int
    attempt: int = 0

    def as_error(self, why: str = "") -> CachifyPoolFullError:
        """The error that says so. why: what the caller can do, or what was tried."""
        message = f"pool {self.key!r} is full: {self.held} of {self.limit} slots are taken{'; ' * bool(why)}{why}"
        return CachifyPoolFullError(message, self.key, self.limit, self.held)


@dataclass(frozen=True, slots=True)
class RaiseFull:
    """Raise `CachifyPoolFullError`; `why` is added to its message."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class Skip:
    """Do not run. A task ends as revoked; with a result given, as successful with that result."""

    result: object = UNSET


@dataclass(frozen=True, slots=True)
class Defer:
    """Send the task again after a delay; a direct call cannot be deferred and raises."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class Recall:
    """Return the last good result of this function with these arguments.

    Attributes:
        ttl_ms: how long a result is kept; None: until it is replaced.
        default: what to return while there is no result; UNSET: raise `CachifyPoolFullError`.
        key: a template that names the results; None: the function and all its arguments.
    """

    ttl_ms: int | None = None
    default: object = UNSET
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Invoke:
    """Return what the callback returns for the call's own arguments."""

    callback: Callable[..., object]


@dataclass(frozen=True, slots=True)
class Parking:
    """How a strategy has tasks wait in the pool's queue.

    Attributes:
        then: the strategy for a task that may not wait, or not any longer.
        max_parked: park only while fewer tasks than this wait; 0: no such limit.
        max_age_ms: a task that has waited longer when its turn comes does not run; 0: no such limit.
        priority: "message", or what computes 0 to 255 from the call's arguments; None: in the order of arrival.
    """

    then: Strategy
    max_parked: int = 0
    max_age_ms: int = 0
    priority: Callable[..., int] | str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a strategy has calls wait in the pool's queue. timeout_ms: the longest wait; 0: none; None: no limit."""

    timeout_ms: int | None = None

    def describe(self) -> str:
        """What the error says of a call that has waited in vain."""
        return "not waited for" if not self.timeout_ms else f"waited for {self.timeout_ms / 1000:g} s"


def waiting_of(strategy: object) -> Waiting | None:
    """How calls wait by this strategy; None: they do not."""
    found = getattr(strategy, "waiting", None)
    return found if isinstance(found, Waiting) else None


def parking_of(strategy: object) -> Parking | None:
    """How tasks are parked by this strategy; None: they are not."""
    found = getattr(strategy, "parking", None)
    return found if isinstance(found, Parking) else None


Decision: TypeAlias = RaiseFull | Skip | Defer | Recall | Invoke


@runtime_checkable
class Strategy(Protocol):
    """What `on_full` takes."""

    def decide(self, full: FullPool) -> Decision:
        """What to do with this call. A worker may ask twice, in two processes: by `full` alone, the same each time."""

    def keeps(self) -> Recall | None:
        """How good results are kept for later calls; None: they are not."""
