"""The specification: one pool, one method for each script.

Time is abstract: `expired` means that the deadline lies before the server's clock. Nobody here moves the clock; whoever
uses the model says what has expired.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

BATCH: Final = 2  # slots that one script reserves at most; few, so that an exploration reaches the bound
DOUBLINGS: Final = 3
TASK: Final = "task"
WAITER: Final = "waiter"

Heirs: TypeAlias = tuple[tuple[str, int], ...]  # holder, token
RequestId: TypeAlias = int | str


class Rank(NamedTuple):
    """Orders the queue, the lowest first. A step of priority counts more than any number."""

    before: int  # the priority, negative
    number: int


class Slot(NamedTuple):
    """A slot that runs, or is reserved for an heir that has not started.

    Attributes:
        request_id: the arrival that has it; None: it is reserved.
        starter: of a reserved one: the release that alone may have it started; None: anyone may.
        life: of a reservation: how many times as long as the first one it lasts.
        at_hard_limit: its hard limit has passed.
    """

    token: int
    request_id: RequestId | None = None
    starter: RequestId | None = None
    life: int = 1
    expired: bool = False
    at_hard_limit: bool = False


class Ticket(NamedTuple):
    """What the store keeps of a task or of a function that waits.

    Attributes:
        returned: it has come back to the queue once: the next time it goes to the end.
        unused: how many of its reservations nobody used.
        deaths: how many of its runs have killed their process.
        task_id: it is found by it; empty: it is not found.
    """

    rank: Rank
    kind: str = TASK
    returned: bool = False
    unused: int = 0
    deaths: int = 0
    task_id: str = ""


class Reply(NamedTuple):
    status: str
    token: int = 0
    heirs: Heirs = ()


class Pool:
    """One pool and its scripts. A holder is in at most one of `slots` and `queue`.

    Attributes:
        from_worker: a worker gave the limit.
        counter: gives tokens and ranks. In Redis max(counter + 1, server time in µs).
        tickets: parked, reserved, not yet acknowledged, or the standby copy of a running task.
        tasks: task id -> the holder of its newest ticket.
        tombstones: the last answer about a holder that has left, and whether it is final: then no delivery of it may
            start any more. Each has a TTL.
        aside: tickets in the queue that were put aside: others go before them, and they get no slot until their pause
            is over (True).
        indexed: the pool is in the index that reapers read.
        notified: the waiters, with tokens, for which the last script has reserved slots.
    """

    def __init__(self, limit: int = 0) -> None:
        self.given_limit = limit
        self.from_worker = False
        self.override: int | None = None
        self.counter = 0
        self.slots: dict[str, Slot] = {}
        self.queue: dict[str, Rank] = {}
        self.tickets: dict[str, Ticket] = {}
        self.tasks: dict[str, str] = {}
        self.tombstones: dict[str, tuple[Reply, bool]] = {}
        self.aside: dict[str, bool] = {}
        self.indexed = False
        self.notified: Heirs = ()

    @property
    def limit(self) -> int:
        return self.given_limit if self.override is None else self.override

    # The scripts

    def acquire(
        self, holder: str, request_id: RequestId, *, limit: int = 0, ticket: bool = True, park: bool = True,
        priority: int = 0, max_parked: int = 0, task_id: str = "", first_delivery: bool = False,
        by_worker: bool = False, can_start_heirs: bool = True,
    ) -> Reply:  # fmt: skip
        """A delivery has arrived. request_id: one for each arrival; a command that is sent again keeps it."""
        heirs = self._begin(limit, by_worker, can_start_heirs, asker=holder)
        slot, status = self.slots.get(holder), "granted"
        if slot and slot.request_id == request_id:  # sent again: the reply was lost
            pass
        elif slot and slot.request_id is None and slot.starter is None:  # the first to come starts a reserved slot
            self._take(holder, request_id)
        elif holder in self.queue:
            status = "parked"
        elif not first_delivery and self._last(holder)[1]:
            status = "dropped"
        elif slot:  # it runs elsewhere, or did until a crash that nobody has noticed: keep this copy aside
            status = "standby"
            if ticket and holder not in self.tickets:
                self._put_ticket(holder, Ticket(Rank(-priority, slot.token), task_id=task_id))
        elif len(self.slots) < self.limit and (not self._in_line() or (ticket and self._goes_first(priority))):
            self.slots[holder] = Slot(self._next(), request_id)
        elif ticket and park and not 0 < max_parked <= len(self.queue):
            status = "parked"
            self._park(holder, Ticket(Rank(-priority, self._next()), task_id=task_id))
        else:
            status = "full"
        return self._reply(status, self._granted_token(holder, status), heirs)

    def start_reserved(
        self, holder: str, request_id: RequestId, *, starter: RequestId | None = None, limit: int = 0,
        by_worker: bool = False, can_start_heirs: bool = True,
    ) -> Reply:  # fmt: skip
        """An heir is about to start, here or after a hint; the store owns its message."""
        heirs = self._begin(limit, by_worker, can_start_heirs, asker=holder)
        slot, status = self.slots.get(holder), "dropped"
        if slot and slot.request_id == request_id:
            status = "granted"
        elif slot and slot.request_id is None and slot.starter in (None, starter):
            status = "granted"
            self._take(holder, request_id)
        elif holder in self.queue:
            status = "parked"
        return self._reply(status, self._granted_token(holder, status), heirs)

    def wait_in_queue(self, holder: str, request_id: RequestId, *, limit: int = 0) -> Reply:
        """A function asks for a slot: at first, when it is notified, and now and then without a notification."""
        self._begin(limit, by_worker=False, can_start_heirs=False, asker=holder)
        slot, status = self.slots.get(holder), "granted"
        if slot and slot.request_id == request_id:
            pass
        elif slot and slot.request_id is None and slot.starter is None:
            self._take(holder, request_id)
            self._drop_ticket(holder)  # there is no message to be kept until it ends
        elif holder in self.queue:
            status = "parked"
        elif slot or self._last(holder)[1]:  # it has stopped waiting
            status = "dropped"
        elif len(self.slots) < self.limit and not self._in_line():
            self.slots[holder] = Slot(self._next(), request_id)
        else:
            status = "parked"
            self._park(holder, Ticket(Rank(0, self._next()), WAITER))
        return self._reply(status, self._granted_token(holder, status))

    def renew(self, holder: str, token: int, *, started: bool = False) -> Reply:
        """Extend a lease, also one that has just expired. started: an early-acknowledged heir runs."""
        self.notified = ()
        slot = self.slots.get(holder)
        if slot is None or slot.token != token or slot.at_hard_limit:
            return self._reply("lost", token)  # never re-create
        self.slots[holder] = slot._replace(expired=False)
        if started:
            self._drop_ticket(holder)
        return self._reply("renewed", token)

    def release(
        self, holder: str, token: int, *, request_id: RequestId | None = None, requeue: bool = False,
        can_start_heirs: bool = True, reserve_for_me: bool = False, died: bool = False,
    ) -> Reply:  # fmt: skip
        """A run has ended. requeue: it has not, and runs once more as the same attempt (reject, cold shutdown).

        died: with requeue: it has killed its process.
        """
        self.notified = ()
        slot, (last, final), status = self.slots.get(holder), self._last(holder), "released"
        requeue = requeue and not final  # final: it was withdrawn while it ran
        if slot and self._owns(slot, token, request_id):
            token = slot.token
            del self.slots[holder]
            if requeue:
                self._return_to_queue(holder, died=died)
            else:
                self._drop_ticket(holder)
        elif last.token == token and last.status != "none":  # sent again
            return self._reply(*last)
        elif requeue or final or (slot and slot.request_id is not None):
            return Reply("lost", token)
        else:  # the lease was lost, but the run reached its end and no second one has started: none may start now
            status = "lost"
            self._remove(holder)
        heirs = self._settle(can_start_heirs, starter=request_id if reserve_for_me else None)
        return self._bury(holder, self._reply(status, token, heirs), final=not requeue)

    def withdraw(self, holder: str, *, can_start_heirs: bool = True) -> Reply:
        """A ticket leaves: revoked, expired, tired of waiting. A run goes on; nothing starts any more."""
        self.notified = ()
        slot, (last, final) = self.slots.get(holder), self._last(holder)
        if final:  # sent again, or it has ended already
            return self._reply("withdrawn", 0, last.heirs)
        if slot is None or slot.request_id is None:
            self._remove(holder)
        else:
            self._drop_ticket(holder)
        return self._bury(holder, self._reply("withdrawn", 0, self._settle(can_start_heirs)), final=True)

    def put_back(self, holder: str, token: int, *, pause: bool = False, can_start_heirs: bool = True) -> Reply:
        """A worker does not start an heir: its reservation ends. pause: its ticket is put aside."""
        self.notified = ()
        slot, (last, _) = self.slots.get(holder), self._last(holder)
        if slot is None or slot.request_id is not None or slot.token != token:
            again = (last.status, last.token) == ("returned", token)
            return self._reply(*last) if again else Reply("lost", token)
        del self.slots[holder]
        if holder in self.tickets:
            self.queue[holder] = self.tickets[holder].rank
            self.aside |= {holder: False} if pause else {}
        return self._bury(holder, self._reply("returned", token, self._settle(can_start_heirs)), final=False)

    def sweep(self, *, can_start_heirs: bool = True) -> Reply:
        """The reaper's: any worker, any time. Tickets whose pause is over have their places again."""
        self.notified = ()
        self.aside = {holder: over for holder, over in self.aside.items() if not over}
        return self._reply("swept", 0, self._settle(can_start_heirs))

    def configure(self, limit: int | None, *, can_start_heirs: bool = False) -> Reply:
        """Override the limit; None: back to the one that acquires give. Nobody loses a slot; 0 pauses the pool."""
        self.notified = ()
        self.override = limit
        return self._reply("configured", 0, self._settle(can_start_heirs))

    def find(self, task_id: str) -> str | None:
        """The holder of the task's newest ticket."""
        return self.tasks.get(task_id)

    def due(self) -> bool:
        """Does the index call a reaper? In Redis its score: now, or the earliest deadline."""
        ready = len(self.slots) < self.limit and any(self.aside.get(holder, True) for holder in self.queue)
        return self.indexed and (ready or any(slot.expired for slot in self.slots.values()))

    # Their parts

    def _begin(self, limit: int, by_worker: bool, can_start_heirs: bool, asker: str) -> Heirs:
        self.notified = ()
        if limit > 0 and (by_worker or not self.from_worker):  # a worker's limit counts, not a direct call's
            self.given_limit = limit
            self.from_worker = by_worker
        return self._settle(can_start_heirs, asker=asker)

    def _settle(self, can_start_heirs: bool, *, asker: str = "", starter: RequestId | None = None) -> Heirs:
        """Forget expired slots, and reserve free ones for the oldest tickets.

        A caller that cannot start tasks serves the waiters before the first task and no further.
        """
        for holder, slot in sorted(self.slots.items(), key=self._by_deadline):
            if slot.expired:
                del self.slots[holder]
                self._return_to_queue(holder, unused=slot.request_id is None)
        heirs, notified = list[tuple[str, int]](), list[tuple[str, int]]()
        free = min(self.limit - len(self.slots), self.batch)
        for holder in sorted(self.queue, key=self.place)[: max(free, 0)]:
            if not self.aside.get(holder, True):
                break
            waits = self.tickets[holder].kind == WAITER
            if not (waits or can_start_heirs):
                break
            token = self._reserve(holder, None if waits else starter)
            if holder != asker:
                (notified if waits else heirs).append((holder, token))
        self.notified = tuple(notified)
        return tuple(heirs)

    batch = BATCH

    def place(self, holder: str) -> Any:
        """Orders the queue: what was put aside comes last."""
        aside = holder in self.aside
        return aside, self._by_pause(holder) if aside else self.queue[holder]

    def _by_pause(self, holder: str) -> Any:
        """The order in which pauses end; as with deadlines, abstract time knows none."""
        return self.queue[holder]

    def _in_line(self) -> list[Rank]:
        """The ranks of the tickets that were not put aside."""
        return [rank for holder, rank in self.queue.items() if holder not in self.aside]

    def _by_deadline(self, item: tuple[str, Slot]) -> Any:
        """The order in which expired slots are forgotten. Abstract time knows none; a comparison with a store does."""
        return item[0]

    def _reserve(self, holder: str, starter: RequestId | None) -> int:
        """No moment lies between freeing a slot and reserving it, so no newcomer can take it."""
        token = self._next()
        self._leave_queue(holder)
        life = 2 ** min(self.tickets[holder].unused, DOUBLINGS)
        self.slots[holder] = Slot(token, starter=starter, life=life)
        return token

    def _take(self, holder: str, request_id: RequestId) -> None:
        """A reservation becomes a lease, with the same token."""
        self.slots[holder] = Slot(self.slots[holder].token, request_id)

    def _goes_first(self, priority: int) -> bool:
        """A slot is free beside tickets only if nobody could start the first; a higher priority goes before it."""
        return -priority < min(self._in_line()).before

    def _return_to_queue(self, holder: str, *, unused: bool = False, died: bool = False) -> None:
        """A ticket keeps its rank once; then it goes to the end of its priority, so that none blocks the others."""
        ticket = self.tickets.get(holder)
        if ticket is None:
            return
        if ticket.kind == WAITER:  # its process is dead, or it will ask again
            self._drop_ticket(holder)
            return
        rank = self._returned_rank(ticket)
        self.tickets[holder] = ticket._replace(
            rank=rank, returned=True, unused=ticket.unused + unused, deaths=ticket.deaths + died
        )
        self.queue[holder] = rank

    def _returned_rank(self, ticket: Ticket) -> Rank:
        return Rank(ticket.rank.before, self._next()) if ticket.returned else ticket.rank

    def _park(self, holder: str, ticket: Ticket) -> None:
        self.queue[holder] = ticket.rank
        self._put_ticket(holder, ticket)

    def _put_ticket(self, holder: str, ticket: Ticket) -> None:
        self.tickets[holder] = ticket
        if ticket.task_id:
            self.tasks[ticket.task_id] = holder

    def _drop_ticket(self, holder: str) -> None:
        ticket = self.tickets.pop(holder, None)
        if ticket is not None and self.tasks.get(ticket.task_id) == holder:
            del self.tasks[ticket.task_id]

    def _remove(self, holder: str) -> None:
        self.slots.pop(holder, None)
        self._leave_queue(holder)
        self._drop_ticket(holder)

    def _leave_queue(self, holder: str) -> None:
        self.queue.pop(holder, None)
        self.aside.pop(holder, None)

    def _bury(self, holder: str, reply: Reply, *, final: bool) -> Reply:
        self.tombstones[holder] = reply, final
        return reply

    def _last(self, holder: str) -> tuple[Reply, bool]:
        return self.tombstones.get(holder, (Reply("none"), False))

    def _reply(self, status: str, token: int, heirs: Heirs = ()) -> Reply:
        """End a script: keep the index true, and name only heirs that still wait for their start."""
        self.indexed = bool(self.tickets)
        waiting = {(holder, slot.token) for holder, slot in self.slots.items() if slot.request_id is None}
        return Reply(status, token, tuple(heir for heir in heirs if heir in waiting))

    def _granted_token(self, holder: str, status: str) -> int:
        return self.slots[holder].token if status == "granted" else 0

    def _owns(self, slot: Slot, token: int, request_id: RequestId | None) -> bool:
        if slot.request_id is None:
            return False
        return slot.token == token or (token == 0 and slot.request_id == request_id)

    def _next(self) -> int:
        self.counter += 1
        return self.counter

    def __str__(self) -> str:
        slots = (
            f"{holder}#{slot.token}{' reserved' * (slot.request_id is None)}{' expired' * slot.expired}"
            for holder, slot in self.slots.items()
        )
        queue = " ".join(sorted(self.queue, key=self.queue.__getitem__))
        return f"slots: {', '.join(slots) or '-'}; queue: {queue or '-'}"
