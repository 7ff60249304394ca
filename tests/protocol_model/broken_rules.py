"""One rule of the model broken at a time, with a small world in which that does harm."""

from __future__ import annotations

from typing import Any, NamedTuple

from .pool import Heirs, Pool, Rank, Reply, RequestId, Slot, Ticket


class NoReservation(Pool):
    """Release names the heir and keeps no slot for it."""

    def _reserve(self, holder: str, starter: RequestId | None) -> int:
        del self.queue[holder]
        self._drop_ticket(holder)
        return 0

    def _reply(self, status: str, token: int, heirs: Heirs = ()) -> Reply:
        return super()._reply(status, token)._replace(heirs=heirs)

    def start_reserved(self, holder: str, request_id: RequestId, **_: Any) -> Reply:
        return super().acquire(holder, request_id)


class AnyToken(Pool):
    """Release looks at the holder alone."""

    def _owns(self, slot: Slot, token: int, request_id: RequestId | None) -> bool:
        return slot.request_id is not None


class RenewCreates(Pool):
    """Renew writes the slot, whether it is there or not."""

    def renew(self, holder: str, token: int, *, started: bool = False) -> Reply:
        self.slots.setdefault(holder, Slot(token, 0))
        return Reply("renewed", token)


class NoTombstone(Pool):
    """Release lets late copies in."""

    def _bury(self, holder: str, reply: Reply, *, final: bool) -> Reply:
        return super()._bury(holder, reply, final=False)


class NoMemory(Pool):
    """The tombstone does not remember the heirs."""

    def _bury(self, holder: str, reply: Reply, *, final: bool) -> Reply:
        super()._bury(holder, reply._replace(heirs=()), final=final)
        return reply


class IdleSweep(Pool):
    """The reaper leaves free slots to the next release."""

    def sweep(self, *, can_start_heirs: bool = True) -> Reply:
        return super().sweep(can_start_heirs=False)


class NoStandby(Pool):
    """A copy of a task that has a slot is dropped."""

    def acquire(self, holder: str, request_id: RequestId, **options: Any) -> Reply:
        reply = super().acquire(holder, request_id, **options)
        if reply.status == "standby":
            self._drop_ticket(holder)
        return reply


class EarlyDrop(Pool):
    """An early-acknowledged heir's message goes before its start."""

    def start_reserved(self, holder: str, request_id: RequestId, **options: Any) -> Reply:
        reply = super().start_reserved(holder, request_id, **options)
        if reply.status == "granted" and holder.startswith("E"):
            self._drop_ticket(holder)
        return reply


class Barging(Pool):
    """A free slot goes to a newcomer although there are tickets."""

    def acquire(self, holder: str, request_id: RequestId, *, ticket: bool = True, **options: Any) -> Reply:
        return super().acquire(holder, request_id, **{**options, "park": ticket and options.get("park", True)})

    def _goes_first(self, priority: int) -> bool:
        return True


class WaiterComesBack(Pool):
    """The ticket of a dead waiter returns to the queue."""

    def _return_to_queue(self, holder: str, *, unused: bool = False, died: bool = False) -> None:
        ticket = self.tickets.get(holder)
        if ticket is not None:
            self.tickets[holder] = ticket._replace(returned=True)
            self.queue[holder] = ticket.rank


class WaiterKeepsItsTicket(Pool):
    """A waiter that runs still has its ticket."""

    def wait_in_queue(self, holder: str, request_id: RequestId, *, limit: int = 0) -> Reply:
        before = self.tickets.get(holder)
        reply = super().wait_in_queue(holder, request_id, limit=limit)
        if before is not None and reply.status == "granted":
            self.tickets[holder] = before
        return reply


class AnyStarter(Pool):
    """A hint of an older reservation starts a slot that is reserved for another starter."""

    def start_reserved(self, holder: str, request_id: RequestId, **options: Any) -> Reply:
        slot = self.slots.get(holder)
        if slot is not None and slot.request_id is None:
            options["starter"] = slot.starter
        return super().start_reserved(holder, request_id, **options)


class KeptRank(Pool):
    """A ticket always comes back to its old rank."""

    def _returned_rank(self, ticket: Ticket) -> Rank:
        return ticket.rank


class Broken(NamedTuple):
    rule: type[Pool]
    tasks: str
    faults: tuple[str, ...]


# The last two do no harm that the world can see: `test_model.py` looks for theirs.
BROKEN = [
    Broken(NoReservation, "LL", ("crash",)),
    Broken(AnyToken, "LL", ("stall",)),
    Broken(RenewCreates, "LL", ("stall",)),
    Broken(NoTombstone, "L", ("duplicate",)),
    Broken(NoMemory, "LL", ()),
    Broken(IdleSweep, "LL", ("resize",)),
    Broken(NoStandby, "L", ("crash",)),
    Broken(EarlyDrop, "LE", ("crash",)),
    Broken(Barging, "FLF", ()),
    Broken(WaiterComesBack, "FW", ("crash",)),
    Broken(WaiterKeepsItsTicket, "FW", ("crash",)),
]
