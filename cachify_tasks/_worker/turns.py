"""What a worker does with a parked task whose turn has come, decided in data. Pure: the same facts, the same turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from .._core.replies import Heir
from .endings import Deadly, Ending, Unknown
from .port import Later, Refusal

SHORTEST: Final = 1.0  # seconds that a ticket is put aside, where nobody can say for how long
LONGEST: Final = 10.0  # seconds; then its worker may have come, or another one has capacity


@dataclass(frozen=True, slots=True)
class StartHere:
    """Start it in this worker."""


@dataclass(frozen=True, slots=True)
class SendHint:
    """Tell another worker of it."""


@dataclass(frozen=True, slots=True)
class PutAside:
    """Give its slot to the next ticket; it gets its place in the queue again after so many seconds.

    Attributes:
        unknown: this worker consumes its queue, and does not know it.
    """

    seconds: float
    why: str
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """End it without a run."""

    why: Ending


Turn: TypeAlias = StartHere | SendHint | PutAside | End


def is_deadly(heir: Heir, max_deaths: int | None) -> bool:
    """Has it killed its process as often as it may?"""
    return max_deaths is not None and heir.deaths >= max_deaths


def turn(heir: Heir, refusal: Refusal | Later | None, *, grace_s: float, max_deaths: int | None) -> Turn:
    """What becomes of an heir whose message this worker can read.

    Args:
        refusal: why this worker does not start it; None: it does.
        grace_s: for how long workers may not know its task.
        max_deaths: how often it may kill its process; None: for ever.
    """
    if is_deadly(heir, max_deaths):
        return End(Deadly(heir.deaths))
    match refusal:
        case None:
            return StartHere()
        case Later(seconds):
            return PutAside(min(max(seconds, 0.1), LONGEST), "its rate limit does not let it run yet")
        case Refusal.UNKNOWN:
            unknown_s = heir.unknown_us / 1e6
            if unknown_s >= grace_s:
                return End(Unknown(unknown_s))
            return unknown_here(unknown_s)
        case Refusal.ELSEWHERE:
            return PutAside(SHORTEST, "its queue is another broker's")
        case _:
            return SendHint()


def unknown_here(unknown_s: float) -> PutAside:
    """For a task that this worker does not know, nor others for so many seconds."""
    return PutAside(min(max(unknown_s, SHORTEST), LONGEST), "this worker does not know its task", unknown=True)
