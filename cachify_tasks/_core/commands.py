"""What can be asked of a store, and what it answers.

Each pool command is one atomic script: `_store/_lua/<name>.lua` in Redis, a method of the same name in memory. A command is
a value: sent twice (its reply was lost), it gets the same answer and changes nothing the second time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal, NamedTuple, TypeAlias

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


WAITER: Final = b"~"  # begins the envelope of a function that waits


class Heir(NamedTuple):
    """A task for which a slot has been reserved, for who asked to start.

    envelope: the message that the store keeps of it. waited_ms: from its arrival until the slot was reserved; after it
    has come back to the tail, from then.
    """

    holder: str
    token: int
    envelope: bytes
    waited_ms: int


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
        envelope: the message as the store would keep it; empty: the caller keeps it. A function that waits has none:
            it gives `WAITER` and the pub/sub channel on which it listens. When a slot has been reserved for it "holder
            token" is said there, and it asks again with the same rid; it also asks now and then without being called,
            since a call can get lost. Leaving the queue it withdraws.
        park: full: wait in the queue (needs an envelope).
        priority: 0 to 255; a higher one goes first, within one the order is that of arrival. Each step is a head start
            of 2^40 µs (12.7 days): who has waited for longer than that goes before newcomers of the next higher one.
        max_parked: no more than so many tickets in the queue: then full; 0: no such limit.
        nudge: the store owns the message; this is only a hint to start it.
        fresh: cannot be a late copy of a task that has ended, so tombstones are not looked at.
        starts: the caller can start the heirs that it is told.
        bound: whom its reserved slot is bound to (`Release.binds`).
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
    priority: int = 0
    max_parked: int = 0
    nudge: bool = False
    fresh: bool = False
    starts: bool = False
    bound: str = ""


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
    binds: the slots that it reserves for heirs are bound to its rid: for as long as they are reserved nobody can start
        such a heir but who knows the rid.
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
    binds: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Revoked, expired, or tired of waiting: out of queue and tickets; nothing of this holder starts any more."""

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
    """Set the limit at run time (0 pauses the pool), or with None return to the one that acquires give.

    starts: the caller can start the heirs that it is told. Who cannot (a command line) leaves them to a reaper.
    """

    script: ClassVar[str] = "configure"
    pool: str
    limit: int | None
    start_ms: int
    starts: bool = False


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


class Found(NamedTuple):
    """A task with a ticket. waits: for a slot or for its start; else it runs, and a copy of its message is kept."""

    holder: str
    envelope: bytes
    waits: bool


@dataclass(frozen=True, slots=True)
class Find:
    """The tickets of some tasks; of several attempts with one, that of the last to get it. Answer: list of `Found`.

    tasks: holders' names up to their last colons.
    """

    script: ClassVar[str] = "find"
    pool: str
    tasks: tuple[str, ...]


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
class Ticketed:
    """Names of the pools that have tickets. Answer: list of str."""


@dataclass(frozen=True, slots=True)
class Due:
    """Names of the pools with something to do for a reaper now: `Sweep` them. Answer: list of str."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Be the one to do something in the time to come, as walking the indexes. Answer: bool.

    Nobody else is granted the claim for ttl_ms. Sent twice (a lost reply), the second answer is no: one turn is missed.
    """

    name: str
    ttl_ms: int


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


Index: TypeAlias = Pools | Ticketed | Due
Command: TypeAlias = PoolCommand | Size | Look | Find | Index | Claim | Get | Put | Delete


def sent_again(command: Command) -> Command:
    """The same command for another try. The first one may have parked a task that has run to its end by now."""
    return replace(command, fresh=False) if isinstance(command, Acquire) else command
