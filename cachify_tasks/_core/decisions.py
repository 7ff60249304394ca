"""What a strategy can answer when a pool is full: a closed set, so that each framework acts on all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ..settings import UNSET


@dataclass(frozen=True, slots=True)
class FullPool:
    """What a strategy is told: the pool's key, its limit, the slots held, and how often this call was put off."""

    key: str
    limit: int
    held: int
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class RaiseFull:
    """`CachifyPoolFullError`; `why` is added to its message."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class Skip:
    """Do not run. A task ends as revoked; with a result given, as successful with that result."""

    result: Any = UNSET


@dataclass(frozen=True, slots=True)
class Defer:
    """Send the task again after a delay; a plain call cannot be deferred and raises."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class Recall:
    """Answer with the last good result of this function with these arguments.

    Attributes:
        ttl_ms: how long a result is kept; None: until it is replaced.
        default: the answer while there is none; UNSET: `CachifyPoolFullError`.
        key: a template that names the results; None: the function and all its arguments.
    """

    ttl_ms: int | None = None
    default: Any = UNSET
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Invoke:
    """Answer with what the callback makes of the call's own arguments."""

    callback: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Parking:
    """How a strategy has tasks wait in the pool's queue.

    Attributes:
        then: the strategy for a task that may not wait (any longer).
        max_parked: no more than so many tasks wait; 0: no such limit.
        max_age_ms: who has waited longer when its turn comes does not run; 0: no such limit.
        priority: "message", or what computes 0 to 255 from the call's arguments; None: in the order of arrival.
    """

    then: Strategy
    max_parked: int = 0
    max_age_ms: int = 0
    priority: Callable[..., int] | str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a strategy has calls wait in the pool's queue. timeout_ms: for so long at most; None: for ever."""

    timeout_ms: int | None = None

    @property
    def told(self) -> str:
        """Of who has waited in vain."""
        return "not waited for" if not self.timeout_ms else f"waited for {self.timeout_ms / 1000:g} s"


def waiting_of(strategy: Any) -> Waiting | None:
    """How calls wait by this strategy; None: they do not."""
    found = getattr(strategy, "waiting", None)
    return found if isinstance(found, Waiting) else None


def parking_of(strategy: Any) -> Parking | None:
    """How this strategy parks; None: it does not."""
    found = getattr(strategy, "parking", None)
    return found if isinstance(found, Parking) else None


Decision: TypeAlias = RaiseFull | Skip | Defer | Recall | Invoke


@runtime_checkable
class Strategy(Protocol):
    """What `on_full` takes."""

    def decide(self, full: FullPool) -> Decision:
        """What to do with this call."""

    def keeps(self) -> Recall | None:
        """How good results are to be remembered, if they are."""
