"""Why a parked task ends without a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


class UnreadableError(Exception):
    """A parked message cannot be read: its serializer is not accepted any more, or its content is broken."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    error: Exception

    def __str__(self) -> str:
        return f"its message cannot be read: {self.error}"


@dataclass(frozen=True, slots=True)
class Unknown:
    """Workers that consume its queue have said for so many seconds that they do not know its task."""

    seconds: float

    def __str__(self) -> str:
        return f"for {self.seconds:.0f} s no worker of its queue has known its task"


@dataclass(frozen=True, slots=True)
class Deadly:
    """It has killed its process so many times, under workers that went on."""

    deaths: int

    def __str__(self) -> str:
        return f"it has killed its process {self.deaths} times"


@dataclass(frozen=True, slots=True)
class Revoked:
    """Its worker does not know the task, so that nobody else would find out."""

    def __str__(self) -> str:
        return "it was revoked"


Ending: TypeAlias = Unreadable | Unknown | Deadly | Revoked
