"""What can be asked of a store, and what it answers.

Each pool command is one atomic script: `_lua/<name>.lua` in Redis, a method of the same name in memory. A command is
a value: sent twice (its reply was lost), it gets the same answer and changes nothing the second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias

Status: TypeAlias = Literal[
    "granted",
    "parked",
    "standby",
    "dropped",
    "full",
    "renewed",
    "released",
    "withdrawn",
    "swept",
    "configured",
    "lost",
]


class Heir(NamedTuple):
    """A task for which a slot has been reserved."""

    holder: str
    token: int


class Reply(NamedTuple):
    """The answer to a pool command.

    token: of the grant; 0 where there is none. held, limit: the pool's, after the command. was: the limit that an
    earlier acquire of the same pool had given, when it was another; else 0.
    """

    status: Status
    token: int = 0
    held: int = 0
    limit: int = 0
    was: int = 0
    heirs: tuple[Heir, ...] = ()


@dataclass(frozen=True, slots=True)
class Acquire:
    """Ask for a slot.

    Attributes:
        pool: its name, the resolved key.
        holder: who asks; the same for every copy of one attempt of one task.
        rid: this arrival's nonce: the same when the command is sent again, another for a second delivery.
        limit: the most holders at once.
        lease_ms: life of the slot without renewal.
        start_ms: life of the slots that this script reserves for others.
        hard_ms: after this the slot counts no more, renewed or not; 0: no such limit.
        label: what `inspect` shows of this holder.
        envelope: the message as the store would keep it; empty: the caller keeps it.
        park: full: wait in the queue (needs an envelope).
        nudge: the store owns the message; this is only a hint to start it.
        fresh: cannot be a late copy of a task that has ended, so tombstones are not looked at.
        starts: the caller can start the heirs that it is told.
    """

    script: ClassVar[str] = "acquire"
    pool: str
    holder: str
    rid: str
    limit: int
    lease_ms: int
    start_ms: int
    hard_ms: int = 0
    label: str = ""
    envelope: bytes = b""
    park: bool = False
    nudge: bool = False
    fresh: bool = False
    starts: bool = False


@dataclass(frozen=True, slots=True)
class Renew:
    """Put a slot's deadline off. acked: an early-acknowledged heir has started, its envelope goes."""

    script: ClassVar[str] = "renew"
    pool: str
    holder: str
    token: int
    lease_ms: int
    acked: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """A run has ended: free its slot.

    token: the fencing token of the grant, or 0 when its reply never came; then `rid` tells the owner.
    again: it shall run once more as the same attempt. tomb_ms: how long late copies are recognised.
    """

    script: ClassVar[str] = "release"
    pool: str
    holder: str
    token: int
    rid: str
    start_ms: int
    tomb_ms: int
    again: bool = False
    starts: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Revoked or expired: out of queue and tickets; nothing of this holder starts any more."""

    script: ClassVar[str] = "withdraw"
    pool: str
    holder: str
    start_ms: int
    tomb_ms: int
    starts: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """Forget expired leases and reserve free slots for the oldest tickets."""

    script: ClassVar[str] = "sweep"
    pool: str
    start_ms: int


@dataclass(frozen=True, slots=True)
class Configure:
    """Set the limit at run time (0 pauses the pool), or with None return to the one that acquires give."""

    script: ClassVar[str] = "configure"
    pool: str
    limit: int | None


PoolCommand: TypeAlias = Acquire | Renew | Release | Withdraw | Sweep | Configure


@dataclass(frozen=True, slots=True)
class Size:
    """How many slots are held. Answer: int."""

    script: ClassVar[str] = "size"
    pool: str


@dataclass(frozen=True, slots=True)
class Look:
    """Who holds what. Answer: `PoolView`."""

    script: ClassVar[str] = "look"
    pool: str


class HolderView(NamedTuple):
    holder: str
    token: int
    label: str
    reserved: bool
    since: float  # seconds since the epoch, the server's clock
    expires_in: float  # seconds


class PoolView(NamedTuple):
    name: str
    limit: int
    waiting: int
    holders: tuple[HolderView, ...]


@dataclass(frozen=True, slots=True)
class Pools:
    """Names of the pools that have leases or tickets. Answer: list of str."""


@dataclass(frozen=True, slots=True)
class Get:
    """A cached value. Answer: bytes, or None."""

    key: str


@dataclass(frozen=True, slots=True)
class Put:
    """Keep a value; ttl_ms None: until it is deleted. Answer: None."""

    key: str
    value: bytes
    ttl_ms: int | None


@dataclass(frozen=True, slots=True)
class Delete:
    """Forget a cached value. Answer: None."""

    key: str


Command: TypeAlias = PoolCommand | Size | Look | Pools | Get | Put | Delete
