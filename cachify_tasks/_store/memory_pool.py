"""One pool in memory: what its keys hold in Redis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .._core.replies import Status
from .records import SlotRecord, TicketRecord

NEVER: Final = 2**63


class Tombstone(NamedTuple):
    """The last answer about a holder that has left.

    Attributes:
        final: no copy of its message may start any more.
        heirs: holders and tokens.
        until: µs.
    """

    final: bool = False
    token: int = -1
    status: Status | None = None
    heirs: tuple[tuple[str, int], ...] = ()
    until: int = 0


@dataclass(slots=True)
class Pool:
    """The state of one pool. Only the thread that holds the store's lock may read or change it.

    Attributes:
        from_worker: a worker gave the limit.
        earliest: no deadline lies before it.
        due: with tickets: when a reaper is due.
        tasks: task id -> the holder of its newest ticket.
    """

    counter: int = 0
    given_limit: int = 0
    from_worker: bool = False
    override: int | None = None
    slots: dict[str, SlotRecord] = field(default_factory=dict)
    deadlines: dict[str, int] = field(default_factory=dict)
    queue: dict[str, int] = field(default_factory=dict)
    tickets: dict[str, TicketRecord] = field(default_factory=dict)
    envelopes: dict[str, bytes] = field(default_factory=dict)
    channels: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)
    tombstones: dict[str, Tombstone] = field(default_factory=dict)
    earliest: int = NEVER
    due: int = 0

    @property
    def limit(self) -> int:
        return self.given_limit if self.override is None else self.override

    @property
    def idle(self) -> bool:
        return not (self.slots or self.tickets or self.tombstones or self.override is not None)
