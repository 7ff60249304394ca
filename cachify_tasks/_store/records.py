"""How slots and tickets are written down: the twin of `_lua/records.lua`, and the only place in Python that knows.

The store in memory keeps them as they are; of a server's they are read for people and for the checker.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

NUMBERS: Final = ("counter", "limit", "override", "keep_until")  # fields of a pool's state
LIMIT_FROM: Final = "limit_from"  # in the state; "worker": a worker gave the limit
SLOT: Final = "slot:"  # + holder, in the state
TICKET: Final = "ticket:"  # + holder, in the tickets, as the next three
ENVELOPE: Final = "envelope:"  # + holder
CHANNEL: Final = "channel:"  # + holder
TASK: Final = "task:"  # + task id; the holder of the task's newest ticket
UNUSED, RAN = 1, 2  # `TicketRecord.returned`: came back to the queue, and its task had begun to run
BATCH: Final = 64  # slots that one script reserves at most
LEVEL: Final = 2**40  # µs: a ticket of the next higher priority counts as that much older
ASIDE: Final = 4 * 10**15  # plus a time in µs: in the queue, the rank of a ticket that gets no slot until then
SILENCE: Final = 30_000_000  # µs: for a longer time without a word nobody has said that a task is unknown
DOUBLINGS: Final = 3  # each unused reservation makes the next one twice as long, at most so many times

_SLOT: Final = re.compile(r"(\d+)\|([^|]*)\|([^|]*)\|(\d+)\|(\d+)\|(.*)", re.DOTALL)
_TICKET: Final = re.compile(r"([^|]*)\|(\d+)\|(-?\d+)\|(\d+)\|(\d)\|(\d+)\|(\d+)\|(\d+)\|(\d+)\|(.*)", re.DOTALL)


class SlotRecord(NamedTuple):
    """A slot.

    Attributes:
        request_id: the arrival that has the slot; empty: it is reserved, and its holder has not started.
        starter: of a reserved one: the request that alone may start it; empty: anyone may.
        hard_limit: µs; 0: none.
        since: µs; when it was granted or reserved.
        label: describes the holder.
    """

    token: int
    request_id: str
    starter: str
    hard_limit: int
    since: int
    label: str

    @property
    def reserved(self) -> bool:
        return not self.request_id

    def encoded(self) -> str:
        return "|".join(map(str, self))

    @classmethod
    def decoded(cls, record: str) -> SlotRecord:
        """Raises ValueError if it is no record of a slot."""
        found = _SLOT.fullmatch(record)
        if found is None:
            raise ValueError(f"no record of a slot: {record!r}")
        token, request_id, starter, hard_limit, since, label = found.groups()
        return cls(int(token), request_id, starter, int(hard_limit), int(since), label)


class TicketRecord(NamedTuple):
    """A ticket.

    Attributes:
        kind: of its envelope, or "waiter".
        rank: orders the queue, the lowest first: a number drawn when it came, less `LEVEL` for each priority.
        arrived: µs; it never changes.
        returned: 1 when it has come back to the queue, 2 when its task had begun to run; the next time it goes to the
            end.
        unused: how many reservations of it nobody used.
        deaths: how many of its runs have killed their process.
        unknown_for: µs for which workers have said that they do not know its task.
        unknown_at: µs; when one said so last; 0: never.
    """

    kind: str
    priority: int
    rank: int
    arrived: int
    returned: int = 0
    unused: int = 0
    deaths: int = 0
    unknown_for: int = 0
    unknown_at: int = 0
    task_id: str = ""

    def encoded(self) -> str:
        return (
            f"{self.kind}|{self.priority}|{self.rank}|{self.arrived}|{self.returned}|{self.unused}|"
            f"{self.deaths}|{self.unknown_for}|{self.unknown_at}|{self.task_id}"
        )

    @classmethod
    def decoded(cls, record: str) -> TicketRecord:
        """Raises ValueError if it is no record of a ticket."""
        found = _TICKET.fullmatch(record)
        if found is None:
            raise ValueError(f"no record of a ticket: {record!r}")
        kind, priority, rank, arrived, returned, unused, deaths, unknown_for, unknown_at, task_id = found.groups()
        return cls(
            kind,
            int(priority),
            int(rank),
            int(arrived),
            int(returned),
            int(unused),
            int(deaths),
            int(unknown_for),
            int(unknown_at),
            task_id,
        )
