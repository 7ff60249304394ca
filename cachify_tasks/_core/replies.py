"""The store's answers to commands: what happened to a slot or a ticket, who holds what, and which tasks wait."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

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
    "returned",
    "lost",
]


class Heir(NamedTuple):
    """A parked task for which the store has reserved a slot.

    Attributes:
        holder: names the attempt of the task.
        token: the fencing token of the reserved slot.
        envelope: the task's message, as it was parked.
        waited_ms: from the task's arrival until the slot was reserved.
        kind: which framework wrote the envelope ("task/celery"). A worker starts only what it can read.
        deaths: how many of its runs have killed their process.
        unknown_us: for how many µs workers have said that they do not know its task.
        ran: it has begun to run before.
    """

    holder: str
    token: int
    envelope: bytes
    waited_ms: int
    kind: str = ""
    deaths: int = 0
    unknown_us: int = 0
    ran: bool = False


class Reply(NamedTuple):
    """The answer to a pool command.

    Attributes:
        token: of the grant; 0 where there is none.
        held, limit: the pool's, after the command.
        previous_limit: the limit that was given before, if it differed from this command's, else 0. `limit` says which
            of them counts.
        heirs: the parked tasks for which the command has reserved slots, for the caller to start.
    """

    status: Status
    token: int = 0
    held: int = 0
    limit: int = 0
    previous_limit: int = 0
    heirs: tuple[Heir, ...] = ()


class Room(NamedTuple):
    """How many slots of a pool are held and how many tickets wait; override: the limit set at run time, if one is."""

    held: int
    waiting: int
    override: int | None = None


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


class Found(NamedTuple):
    """A task with a ticket.

    Attributes:
        waits: for a slot or for its start. False: it runs, and a copy of its message is kept.
        kind: which framework wrote the envelope.
    """

    holder: str
    envelope: bytes
    waits: bool
    kind: str = ""


class Postponed(NamedTuple):
    """Messages that are due, by their names; and in how many ms the next one is, None: there is none."""

    messages: dict[str, bytes]
    next_ms: int | None


class DuePools(NamedTuple):
    """What a reaper has to do.

    Attributes:
        pools: those in which it has something to do now: `Sweep` them. There may be more than these.
        waiting: does any pool have tickets? If not, nothing becomes due before somebody parks a task.
    """

    pools: list[str]
    waiting: bool
