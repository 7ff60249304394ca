"""The commands that a store takes about no single pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .replies import DuePools, Postponed
from .store_command import StoreCommand


@dataclass(frozen=True, slots=True)
class Ping(StoreCommand[None]):
    """Nothing, if the store answers and speaks this client's version of the schema; else an error."""


@dataclass(frozen=True, slots=True)
class Pools(StoreCommand[list[str]]):
    """Names of the pools that have leases or tickets."""


@dataclass(frozen=True, slots=True)
class Locate(StoreCommand[dict[str, str]]):
    """In which pools the newest tickets of some tasks are, by their ids; those without a ticket are left out."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Due(StoreCommand[DuePools]):
    """The pools in which a reaper has something to do now. A worker asks this all the time, so it costs little."""


@dataclass(frozen=True, slots=True)
class Claim(StoreCommand[bool]):
    """Claim a job, for example the reaper's next round. The answer says whether the caller got it.

    Nobody else gets the claim for ttl_ms. Sent twice (a lost reply), the second answer is no: one turn is missed.
    """

    name: str
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Get(StoreCommand[bytes | None]):
    """A cached value; None: there is none."""

    key: str


@dataclass(frozen=True, slots=True)
class Put(StoreCommand[None]):
    """Keep a value; ttl_ms None: until it is deleted."""

    key: str
    value: bytes
    ttl_ms: int | None


@dataclass(frozen=True, slots=True)
class Delete(StoreCommand[None]):
    """Forget a cached value."""

    key: str


@dataclass(frozen=True, slots=True)
class Postpone(StoreCommand[None]):
    """Keep a message until it is due: for a framework whose brokers deliver at once.

    Attributes:
        queue: names the queue to which it is to be sent then.
        name: of the message: under one name there is one.
        message: its bytes.
        delay_ms: until it is due.
    """

    queue: str
    name: str
    message: bytes
    delay_ms: int


@dataclass(frozen=True, slots=True)
class TakePostponed(StoreCommand[Postponed]):
    """The messages of a queue that are due. For a while no other worker gets them: then the caller has died.

    Attributes:
        limit: at most so many.
        hide_ms: for how long no other worker gets them.
    """

    queue: str
    limit: int
    hide_ms: int


@dataclass(frozen=True, slots=True)
class ForgetPostponed(StoreCommand[None]):
    """These messages were sent."""

    queue: str
    names: tuple[str, ...]


KeyCommand: TypeAlias = (
    Ping | Pools | Locate | Due | Claim | Get | Put | Delete | Postpone | TakePostponed | ForgetPostponed
)
