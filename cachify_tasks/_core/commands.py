"""The commands that a store takes.

Each pool command is one atomic script: `_store/_lua/<name>.lua` in Redis, a method of the same name in memory. A
command is a value: sent twice (its reply was lost), it gets the same answer and changes nothing the second time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final, TypeAlias, TypeVar

from .key_commands import KeyCommand
from .replies import Found, PoolView, Reply, Room
from .store_command import StoreCommand

WAITER: Final = "waiter"  # the kind of a ticket of a function that waits; kinds of tasks begin with "task/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What the store keeps of a task's message.

    Attributes:
        kind: which framework wrote the envelope and can read it ("task/celery").
        envelope: the message.
        task_id: `Find` finds the ticket by it; empty: nothing does.
        park: wait in the queue when the pool is full. False: keep the message only as a standby copy, while the first
            delivery of the same attempt holds a slot.
        priority: 0 to 255. A higher one goes first; within one, the order is that of arrival. Each step is a head start
            of 2^40 µs (12.7 days): a task that has waited longer than that goes before newcomers of the next higher
            priority.
        max_parked: park only while fewer tickets than this are in the queue; 0: no such limit.
    """

    kind: str
    envelope: bytes
    task_id: str = ""
    park: bool = True
    priority: int = 0
    max_parked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquire(StoreCommand[Reply]):
    """Ask for a slot; when the pool is full, wait in its queue if there is a ticket that says so.

    Attributes:
        pool: the pool's name: the resolved key.
        holder: names the attempt: the same for every delivery of one attempt of a task.
        request_id: names this arrival: the same when the command is sent again, a new one for a second delivery.
        limit: the most holders at once.
        lease_ms: the life of the slot without renewal.
        start_ms: the life of the slots that this command reserves for heirs.
        slot_exp_ms: the slot's hard limit: it ends after this, renewed or not; 0: no such limit.
        label: describes the holder for whoever inspects the pool.
        by_worker: the limit is a worker's. A direct call's does not replace it.
        first_delivery: the caller knows that this is no late copy of a task that has ended; the store need not look.
        can_start_heirs: the caller starts the heirs that the reply names. Otherwise no slots are reserved for tasks.
        ticket: the message to keep if the task cannot start now; None: the caller keeps it.
    """

    script: ClassVar[str] = "acquire"
    pool: str
    holder: str
    request_id: str
    limit: int
    lease_ms: int
    start_ms: int
    slot_exp_ms: int = 0
    label: str = ""
    by_worker: bool = False
    first_delivery: bool = False
    can_start_heirs: bool = False
    ticket: Ticket | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReserved(StoreCommand[Reply]):
    """Take the slot that is reserved for a parked task. The store owns the task's message.

    The reply is "granted"; "parked": its turn has not come yet; or "dropped": it is running already, has ended, or may
    be started by somebody else only.

    Attributes:
        starter: the request id of the release that reserved the slot for its own worker (`Release.reserve_for_me`);
            empty: of none.
        limit: as in `Acquire`; 0: leave the pool's limit as it is.
    """

    script: ClassVar[str] = "start_reserved"
    pool: str
    holder: str
    request_id: str
    limit: int
    lease_ms: int
    start_ms: int
    slot_exp_ms: int = 0
    label: str = ""
    by_worker: bool = False
    can_start_heirs: bool = False
    starter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitInQueue(StoreCommand[Reply]):
    """Ask for a slot for a function that waits, and stay in the queue until there is one.

    When a slot has been reserved for it, the store publishes "holder token" on the channel, and the function sends this
    command again with the same request id. It also does so now and then without a notification, since one can be lost.
    A function that stops waiting sends `Withdraw`.

    Attributes:
        channel: the pub/sub channel to which the function listens.
    """

    script: ClassVar[str] = "wait_in_queue"
    pool: str
    holder: str
    request_id: str
    limit: int
    lease_ms: int
    start_ms: int
    slot_exp_ms: int = 0
    label: str = ""
    by_worker: bool = False
    channel: str


SlotRequest: TypeAlias = Acquire | StartReserved | WaitInQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew(StoreCommand[Reply]):
    """Extend a slot's lease.

    Attributes:
        started: the task was parked and has started, and its message is acknowledged early: forget the envelope.
    """

    script: ClassVar[str] = "renew"
    pool: str
    holder: str
    token: int
    lease_ms: int
    started: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(StoreCommand[Reply]):
    """Free a slot after a run, and reserve it for the oldest ticket.

    Attributes:
        token: the fencing token of the grant, or 0 when the reply that carried it never came; then `request_id` proves
            ownership.
        start_ms: the life of the slots that this command reserves for heirs.
        tomb_ms: for how long late copies of this attempt are recognised.
        requeue: the attempt has not run, or runs once more: its ticket goes back to the queue, and copies stay valid.
        can_start_heirs: as in `Acquire`.
        reserve_for_me: nobody may start the heirs that this command names but a caller who knows its request id
            (`StartReserved.starter`), for as long as their slots are reserved.
        died: the run has killed its process; with `requeue`, the ticket counts it.
    """

    script: ClassVar[str] = "release"
    pool: str
    holder: str
    token: int
    request_id: str
    start_ms: int
    tomb_ms: int
    requeue: bool = False
    can_start_heirs: bool = False
    reserve_for_me: bool = False
    died: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw(StoreCommand[Reply]):
    """Remove a ticket (revoked, expired, tired of waiting): no delivery of this attempt starts from now on."""

    script: ClassVar[str] = "withdraw"
    pool: str
    holder: str
    start_ms: int
    tomb_ms: int
    can_start_heirs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack(StoreCommand[Reply]):
    """Do not start an heir: its reservation ends, and the slot goes to the next ticket.

    The reply is "returned", or "lost": the slot is not reserved for this heir any more.

    Attributes:
        token: of the reserved slot.
        pause_ms: put the ticket aside for so long: the others go first, and it gets no slot. After that it has its
            place in the queue again. 0: it has it at once.
        unknown: the caller, who consumes the task's queue, does not know the task; the ticket adds up for how long
            callers have said so.
        can_start_heirs: as in `Acquire`.
    """

    script: ClassVar[str] = "put_back"
    pool: str
    holder: str
    token: int
    start_ms: int
    tomb_ms: int
    pause_ms: int = 0
    unknown: bool = False
    can_start_heirs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(StoreCommand[Reply]):
    """Forget expired leases, and reserve free slots for the oldest tickets.

    Attributes:
        can_start_heirs: as in `Acquire`.
    """

    script: ClassVar[str] = "sweep"
    pool: str
    start_ms: int
    can_start_heirs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure(StoreCommand[Reply]):
    """Override the limit at run time (0 pauses the pool), or with None return to the one that acquires give.

    Attributes:
        can_start_heirs: as in `Acquire`. A command line cannot, and leaves them to a reaper.
    """

    script: ClassVar[str] = "configure"
    pool: str
    limit: int | None
    start_ms: int
    can_start_heirs: bool = False


PoolCommand: TypeAlias = SlotRequest | Renew | Release | Withdraw | PutBack | Sweep | Configure


@dataclass(frozen=True, slots=True)
class Size(StoreCommand[int]):
    """How many slots are held."""

    script: ClassVar[str] = "size"
    pool: str


@dataclass(frozen=True, slots=True)
class Look(StoreCommand[Room]):
    """Is there room in a pool?"""

    script: ClassVar[str] = "look"
    pool: str


@dataclass(frozen=True, slots=True)
class Inspect(StoreCommand[PoolView]):
    """Who holds what."""

    script: ClassVar[str] = "inspect"
    pool: str


@dataclass(frozen=True, slots=True)
class Find(StoreCommand[list[Found]]):
    """The tickets of some tasks. If several attempts of a task have one, the newest is found.

    Attributes:
        tasks: their ids (`Ticket.task_id`).
    """

    script: ClassVar[str] = "find"
    pool: str
    tasks: tuple[str, ...]


ScriptCommand: TypeAlias = PoolCommand | Size | Look | Inspect | Find


Command: TypeAlias = ScriptCommand | KeyCommand

C = TypeVar("C", bound=StoreCommand[object])


def resent(command: C) -> C:
    """The command for another try, after its reply was lost.

    The first try may have parked a task that has run to its end by now, so the store must look for a tombstone.
    """
    if isinstance(command, Acquire):
        return replace(command, first_delivery=False)
    return command
