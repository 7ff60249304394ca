"""The scripts in memory: the twin of the Lua files, name by name."""

from __future__ import annotations

import heapq
from typing import Final, TypeAlias, assert_never

from .._core.commands import (
    WAITER,
    Acquire,
    Configure,
    PoolCommand,
    PutBack,
    Release,
    Renew,
    SlotRequest,
    StartReserved,
    Sweep,
    Ticket,
    WaitInQueue,
    Withdraw,
)
from .._core.replies import Heir, Reply, Status
from .memory_pool import NEVER, Pool, Tombstone
from .records import ASIDE, BATCH, DOUBLINGS, LEVEL, RAN, SILENCE, UNUSED, SlotRecord, TicketRecord

MARGIN: Final = 86_400_000_000  # µs
NOTHING: Final = Tombstone()

Notification: TypeAlias = tuple[str, str, int]  # channel, holder, token: a slot has been reserved for a waiter


class Script:
    """One command on one pool at one moment. It runs while its thread holds the store's lock.

    Args:
        notifications: the script appends those of the waiters for which it reserves slots.
    """

    def __init__(self, pool: Pool, now: int, notifications: list[Notification]) -> None:
        self.pool = pool
        self.now = now
        self.notifications = notifications

    def run(self, command: PoolCommand) -> Reply:
        match command:
            case Acquire():
                return self.acquire(command)
            case StartReserved():
                return self.start_reserved(command)
            case WaitInQueue():
                return self.wait_in_queue(command)
            case Renew():
                return self.renew(command)
            case Release():
                return self.release(command)
            case Withdraw():
                return self.withdraw(command)
            case PutBack():
                return self.put_back(command)
            case Sweep():
                return self.sweep(command)
            case Configure():
                return self.configure(command)
            case _:
                assert_never(command)

    def acquire(self, c: Acquire) -> Reply:
        pool, ticket = self.pool, c.ticket
        previous_limit = self.set_limit(c)
        heirs = self.settle(c.start_ms, c.can_start_heirs, asker=c.holder)
        slot, status, token = pool.slots.get(c.holder), _GRANTED, 0
        if slot and slot.request_id == c.request_id:  # sent again: the reply was lost
            token = slot.token
        elif slot and slot.reserved and not slot.starter:  # the holder's reserved slot: the first to come starts it
            token = self.take(c, slot.token)
        elif c.holder in pool.queue:
            status = "parked"
        elif not c.first_delivery and self.tombstone(c.holder).final:
            status = "dropped"
        elif slot:  # it runs elsewhere, or is about to, or did until a crash that nobody has noticed: keep this copy
            status = "standby"
            if ticket is not None and c.holder not in pool.tickets:
                self.put_task(c.holder, ticket, slot.token - ticket.priority * LEVEL)
        elif len(pool.slots) < pool.limit and self.goes_first(ticket):
            token = self.take(c, self.draw())
        elif ticket is not None and ticket.park and (not ticket.max_parked or len(pool.queue) < ticket.max_parked):
            status = "parked"
            rank = self.draw() - ticket.priority * LEVEL
            self.put_task(c.holder, ticket, rank)
            pool.queue[c.holder] = rank
        else:
            status = "full"
        return self.keep(status, token, heirs, previous_limit)

    def goes_first(self, ticket: Ticket | None) -> bool:
        """A slot is free beside tickets only if nobody could start the first; only a higher priority goes before it.

        Before tickets that were put aside go all.
        """
        first = min(self.pool.queue.values(), default=ASIDE)
        return first >= ASIDE or (ticket is not None and self.next_number() - ticket.priority * LEVEL < first)

    def start_reserved(self, c: StartReserved) -> Reply:
        previous_limit = self.set_limit(c)
        heirs = self.settle(c.start_ms, c.can_start_heirs, asker=c.holder)
        slot, token = self.pool.slots.get(c.holder), 0
        status: Status = "dropped"
        if slot and slot.request_id == c.request_id:  # sent again: the reply was lost
            status, token = "granted", slot.token
        elif slot and slot.reserved and slot.starter in ("", c.starter):
            status, token = "granted", self.take(c, slot.token)
        elif c.holder in self.pool.queue:
            status = "parked"
        return self.keep(status, token, heirs, previous_limit)

    def wait_in_queue(self, c: WaitInQueue) -> Reply:
        pool = self.pool
        previous_limit = self.set_limit(c)
        self.settle(c.start_ms, can_start_heirs=False, asker=c.holder)
        slot, status, token = pool.slots.get(c.holder), _GRANTED, 0
        if slot and slot.request_id == c.request_id:  # sent again: the reply was lost
            token = slot.token
        elif slot and slot.reserved and not slot.starter:  # its slot. No message has to be kept until it ends
            token = self.take(c, slot.token)
            self.drop_ticket(c.holder)
        elif c.holder in pool.queue:
            status = "parked"
        elif slot or self.tombstone(c.holder).final:  # it has stopped waiting
            status = "dropped"
        elif len(pool.slots) < pool.limit and min(pool.queue.values(), default=ASIDE) >= ASIDE:
            token = self.take(c, self.draw())
        else:
            status = "parked"
            rank = self.draw()
            pool.tickets[c.holder] = TicketRecord(WAITER, 0, rank, self.now)
            pool.channels[c.holder] = c.channel
            pool.queue[c.holder] = rank
        return self.keep(status, token, (), previous_limit)

    def set_limit(self, c: SlotRequest) -> int:
        """Take over the limit that an acquire gives; return the one before it, if that was another, else 0.

        A worker's limit counts: a direct call's does not replace it for as long as the pool's state lives.
        """
        pool, previous = self.pool, self.pool.given_limit
        if c.limit <= 0:
            return 0
        if c.by_worker or not pool.from_worker:
            pool.given_limit = c.limit
        pool.from_worker = pool.from_worker or c.by_worker
        return 0 if previous == c.limit else previous

    def take(self, c: SlotRequest, token: int) -> int:
        """Give the holder a slot that it runs in; return its token."""
        deadline, hard_limit = self.now + c.lease_ms * 1000, 0
        if c.slot_exp_ms:
            hard_limit = self.now + c.slot_exp_ms * 1000
            deadline = min(deadline, hard_limit)
        self.put_slot(c.holder, SlotRecord(token, c.request_id, "", hard_limit, self.now, c.label), deadline)
        return token

    def renew(self, c: Renew) -> Reply:
        pool, slot = self.pool, self.pool.slots.get(c.holder)
        status: Status = "lost"
        if slot and slot.token == c.token and (not slot.hard_limit or self.now < slot.hard_limit):
            status = "renewed"
            deadline = self.now + c.lease_ms * 1000
            deadline = min(deadline, slot.hard_limit) if slot.hard_limit else deadline
            pool.deadlines[c.holder] = deadline
            pool.earliest = min(pool.earliest, deadline)
            if c.started:
                self.drop_ticket(c.holder)
        return self.keep(status, c.token)

    def release(self, c: Release) -> Reply:
        pool, slot, last, token = self.pool, self.pool.slots.get(c.holder), self.tombstone(c.holder), c.token
        requeue = c.requeue and not last.final  # final: it was revoked while it ran
        runs = slot is not None and not slot.reserved
        status: Status = "released"
        if slot and runs and (slot.token == token or (not token and slot.request_id == c.request_id)):
            token = slot.token
            self.bury(c.holder, c.tomb_ms, "released", token, (), final=not requeue)  # now: a signal may strike below
            self.drop_slot(c.holder)
            if requeue:
                self.return_to_queue(c.holder, died=c.died)
            else:
                self.drop_ticket(c.holder)
        elif last.token == token and last.status:  # sent again
            return self.answer(last.status, token, self.heirs_still_reserved(last.heirs))
        elif requeue or last.final or runs:  # another run has the slot, or nothing is left to do
            return self.answer("lost", token)
        else:  # the lease was lost, but the run reached its end and no second one has started: none may start now
            status = "lost"
            self.drop_slot(c.holder)
            pool.queue.pop(c.holder, None)
            self.drop_ticket(c.holder)
        heirs = self.settle(c.start_ms, c.can_start_heirs, starter=c.request_id if c.reserve_for_me else "")
        self.bury(c.holder, c.tomb_ms, status, token, heirs, final=not requeue)
        return self.keep(status, token, heirs)

    def withdraw(self, c: Withdraw) -> Reply:
        pool, slot, last = self.pool, self.pool.slots.get(c.holder), self.tombstone(c.holder)
        if last.final:  # sent again, or it has ended already
            return self.answer("withdrawn", 0, self.heirs_still_reserved(last.heirs))
        if slot and slot.reserved:
            self.drop_slot(c.holder)
        pool.queue.pop(c.holder, None)
        self.drop_ticket(c.holder)
        heirs = self.settle(c.start_ms, c.can_start_heirs)
        self.bury(c.holder, c.tomb_ms, "withdrawn", 0, heirs, final=True)
        return self.keep("withdrawn", 0, heirs)

    def put_back(self, c: PutBack) -> Reply:
        pool, slot, last = self.pool, self.pool.slots.get(c.holder), self.tombstone(c.holder)
        if not (slot and slot.reserved and slot.token == c.token):
            again = last.token == c.token and last.status == "returned"
            return self.answer(
                "returned" if again else "lost", c.token, self.heirs_still_reserved(last.heirs) if again else ()
            )
        self.drop_slot(c.holder)
        ticket = pool.tickets.get(c.holder)
        if ticket is not None:
            if c.unknown:
                said = min(self.now - ticket.unknown_at, SILENCE) if ticket.unknown_at else 0
                pool.tickets[c.holder] = ticket._replace(unknown_for=ticket.unknown_for + said, unknown_at=self.now)
            pool.queue[c.holder] = ASIDE + self.now + c.pause_ms * 1000 if c.pause_ms else ticket.rank
        heirs = self.settle(c.start_ms, c.can_start_heirs)
        self.bury(c.holder, c.tomb_ms, "returned", c.token, heirs, final=False)
        return self.keep("returned", c.token, heirs)

    def sweep(self, c: Sweep) -> Reply:
        pool = self.pool
        for holder in [holder for holder, rank in pool.queue.items() if ASIDE <= rank <= ASIDE + self.now]:
            pool.queue[holder] = pool.tickets[holder].rank  # it has its place again
        return self.keep("swept", 0, self.settle(c.start_ms, c.can_start_heirs))

    def configure(self, c: Configure) -> Reply:
        self.pool.override = c.limit
        return self.keep("configured", 0, self.settle(c.start_ms, c.can_start_heirs))

    def settle(
        self, start_ms: int, can_start_heirs: bool, *, asker: str | None = None, starter: str = ""
    ) -> tuple[Heir, ...]:
        """Forget expired slots, and reserve free ones for the oldest tickets."""
        pool = self.pool
        if self.now > pool.earliest:
            for _, holder in sorted((at, holder) for holder, at in pool.deadlines.items() if at < self.now):
                slot = pool.slots[holder]
                self.drop_slot(holder)
                self.return_to_queue(holder, unused=slot.reserved)
            pool.earliest = min(pool.deadlines.values(), default=NEVER)
        return self.reserve(start_ms, can_start_heirs, asker, starter) if pool.queue else ()

    def reserve(self, start_ms: int, can_start_heirs: bool, asker: str | None, starter: str) -> tuple[Heir, ...]:
        """Reserve free slots for the oldest tickets. Waiters are notified; tasks are heirs for the caller to start.

        A caller that cannot start them serves the waiters before the first task and no further.
        """
        pool, heirs = self.pool, list[Heir]()
        free = min(pool.limit - len(pool.slots), BATCH)
        if free < 1:
            return ()
        for rank, holder in heapq.nsmallest(free, [(rank, holder) for holder, rank in pool.queue.items()]):
            if rank > ASIDE + self.now:
                break
            ticket = pool.tickets.get(holder) or TicketRecord("", 0, rank, self.now)
            waits = ticket.kind == WAITER
            if not (waits or can_start_heirs):
                break
            token = self.draw()
            del pool.queue[holder]
            life = start_ms * 1000 * 2 ** min(ticket.unused, DOUBLINGS)
            slot = SlotRecord(token, "", "" if waits else starter, 0, self.now, "")
            self.put_slot(holder, slot, self.now + life)
            if waits and holder != asker:
                self.notifications.append((pool.channels[holder], holder, token))
            elif holder != asker:
                heirs.append(self.heir(holder, slot))
        return tuple(heirs)

    def heir(self, holder: str, slot: SlotRecord) -> Heir:
        ticket = self.pool.tickets.get(holder) or TicketRecord("", 0, 0, slot.since)
        waited_ms = max(0, (slot.since - ticket.arrived + 500) // 1000)
        envelope = self.pool.envelopes.get(holder, b"")
        return Heir(
            holder, slot.token, envelope, waited_ms, ticket.kind, ticket.deaths, ticket.unknown_for,
            ran=ticket.returned == RAN,
        )  # fmt: skip

    def heirs_still_reserved(self, names: tuple[tuple[str, int], ...]) -> tuple[Heir, ...]:
        """Of the heirs that a tombstone remembers, those that still wait for their start."""
        known = ((holder, token, self.pool.slots.get(holder)) for holder, token in names)
        return tuple(
            self.heir(holder, slot) for holder, token, slot in known if slot and slot.reserved and slot.token == token
        )

    def put_slot(self, holder: str, slot: SlotRecord, deadline: int) -> None:
        pool = self.pool
        pool.slots[holder] = slot
        pool.deadlines[holder] = deadline
        pool.earliest = min(pool.earliest, deadline)

    def drop_slot(self, holder: str) -> None:
        self.pool.deadlines.pop(holder, None)
        self.pool.slots.pop(holder, None)  # last: a signal may strike in between, and by this the release is sent again

    def put_task(self, holder: str, ticket: Ticket, rank: int) -> None:
        pool = self.pool
        pool.tickets[holder] = TicketRecord(ticket.kind, ticket.priority, rank, self.now, task_id=ticket.task_id)
        pool.envelopes[holder] = ticket.envelope
        if ticket.task_id:
            pool.tasks[ticket.task_id] = holder

    def drop_ticket(self, holder: str) -> None:
        pool = self.pool
        ticket = pool.tickets.get(holder)
        if ticket is None:
            return
        pool.envelopes.pop(holder, None)
        pool.channels.pop(holder, None)
        if pool.tasks.get(ticket.task_id) == holder:
            del pool.tasks[ticket.task_id]
        pool.tickets.pop(holder, None)  # last: a signal may strike in between, and by this the command is sent again

    def return_to_queue(self, holder: str, *, unused: bool = False, died: bool = False) -> None:
        """A slot is gone and its task has not ended: the ticket, if there is one, returns to the queue.

        It keeps its rank once; after that it goes to the end of its priority, so that a task that nobody can start does
        not block the others. A waiter's ticket is dropped: its process is dead, or it will ask again.
        """
        ticket = self.pool.tickets.get(holder)
        if ticket is None:
            return
        if ticket.kind == WAITER:
            self.drop_ticket(holder)
            return
        rank = self.draw() - ticket.priority * LEVEL if ticket.returned else ticket.rank
        known = ticket if unused else ticket._replace(unknown_for=0, unknown_at=0)
        self.pool.tickets[holder] = known._replace(
            rank=rank,
            returned=max(ticket.returned, UNUSED if unused else RAN),
            unused=ticket.unused + unused,
            deaths=ticket.deaths + died,
        )
        self.pool.queue[holder] = rank

    def draw(self) -> int:
        """A token or rank: greater than all before, even when the store has lost the counter."""
        self.pool.counter = self.next_number()
        return self.pool.counter

    def next_number(self) -> int:
        return max(self.pool.counter + 1, self.now)

    def tombstone(self, holder: str) -> Tombstone:
        found = self.pool.tombstones.get(holder, NOTHING)
        return found if found.until > self.now else NOTHING

    def bury(
        self, holder: str, tomb_ms: int, status: Status, token: int, heirs: tuple[Heir, ...], *, final: bool
    ) -> None:
        names = tuple([(heir.holder, heir.token) for heir in heirs]) if heirs else ()
        self.pool.tombstones[holder] = Tombstone(final, token, status, names, self.now + tomb_ms * 1000)

    def keep(self, status: Status, token: int, heirs: tuple[Heir, ...] = (), previous_limit: int = 0) -> Reply:
        """End a script that may have changed the pool: keep the time true at which a reaper is due."""
        pool = self.pool
        if pool.tickets:
            first = min(pool.queue.values(), default=NEVER) if len(pool.slots) < pool.limit else NEVER
            if first <= ASIDE + self.now:
                pool.due = self.now
            else:
                pool.due = min(min(pool.deadlines.values(), default=self.now + MARGIN), first - ASIDE)
        return self.answer(status, token, heirs, previous_limit)

    def answer(self, status: Status, token: int, heirs: tuple[Heir, ...] = (), previous_limit: int = 0) -> Reply:
        return Reply(status, token, len(self.pool.slots), self.pool.limit, previous_limit, heirs)


_GRANTED: Final[Status] = "granted"
