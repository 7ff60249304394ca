"""What can go wrong around a pool: a broker that delivers at least once, workers that crash between any two steps, lost
replies (the script is sent again), leases that expire under a run that goes on, revokes, changes of the limit.

`World.check` holds after each step, `World.check_end` where nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from .pool import BATCH, Pool, Reply, Slot

FAULTS: Final = (
    "crash",
    "lose",
    "duplicate",
    "stall",
    "hint",
    "put_back",
    "revoke",
    "leave",
    "resize",
    "requeue",
    "forget",
)
Action: TypeAlias = tuple[Any, ...]  # step, *arguments; "?" after the step: the reply of its script is lost


class Copy(NamedTuple):
    """A message in the broker: a task's, or a hint that names the task, its pool and the starter of its slot.

    Attributes:
        owner: the delivery that has not acknowledged it; -1: it is ready.
    """

    holder: str
    hint: bool = False
    owner: int = -1
    starter: int | None = None


class Proc(NamedTuple):
    """One thing that a worker or program does: it handles a delivery, an heir, or a call that waits.

    Attributes:
        request_id: names it; the id of its commands.
        at: arrived | offered | waiting -> running (-> acked) (-> releasing: sent, no reply yet) -> ended
        hint: the store has the message.
        copy: it has a message to acknowledge.
        stalled: its lease expired while it went on.
    """

    request_id: int
    worker: int
    holder: str
    at: str
    token: int = 0
    hint: bool = False
    copy: bool = False
    stalled: bool = False
    starter: int | None = None

    @property
    def runs(self) -> bool:
        return self.at in ("running", "acked")

    @property
    def early(self) -> bool:
        return self.holder[0] in "EN"

    @property
    def reports_start(self) -> bool:
        return self.at == "running" and self.hint and self.early

    @property
    def acks(self) -> bool:
        """acks_late acknowledges after the release, acks_early after the start, a hint once the store has answered."""
        return self.copy and (self.at == "ended" or (self.runs and (self.hint or self.early)))


def must(promise: object, otherwise: str) -> None:
    if not promise:
        raise AssertionError(otherwise)


class World:
    """A pool, its broker, its workers and programs. The first letter of a holder is its kind:

    L acks_late, parks. E acks_early, parks. N acks_early, refused when full. F function: no message, no heirs. W a
    function that waits in the queue.
    """

    def __init__(
        self, pool: Pool, tasks: str, faults: int = 0, kinds: Iterable[str] = FAULTS, workers: int = 2
    ) -> None:
        self.pool = pool
        self.faults = faults
        self.kinds = tuple(kinds)
        self.workers = range(workers)
        self.tasks = [f"{kind}{number}" for number, kind in enumerate(tasks)]
        self.copies = [Copy(task) for task in self.tasks]
        self.procs: dict[int, Proc] = {}
        self.request_ids = 0
        self.lossy = False
        # What an observer remembers of the tasks:
        self.begun = frozenset[str]()
        self.ended = frozenset[str]()
        self.excused = frozenset[str]()  # a crash, stall, requeue or forgotten tombstone explains a second run
        self.waived = frozenset[str]()  # refused, revoked, or lost as acks_early says: need not end
        self.barred = frozenset[str]()  # withdrawn before it ran: must not start

    def moves(self) -> list[tuple[Action, bool]]:
        """Everything that can happen next, and whether it is a fault."""
        steps = self.steps()
        if not steps:
            self.check_end()
        return [(step, False) for step in steps] + [(fault, True) for fault in self.disasters(steps)]

    def steps(self) -> list[Action]:
        """What can happen next without a fault. Nothing: all is over."""
        slots = self.pool.slots
        ready = {copy for copy in self.copies if copy.owner < 0}
        found: list[Action] = [("deliver", copy, worker) for copy in ready for worker in self.workers]
        if self.pool.due() and self._matters("sweep"):
            found += [("sweep", worker) for worker in self.workers]
        for request_id, proc in self.procs.items():
            # A waiter asks at any time, notified or not: a notification may be lost.
            if proc.at == "waiting" and not self._matters("wait_in_queue", proc.holder, request_id):
                continue
            found.append(("ack" if proc.acks else "call", request_id))
            found += [("renew", request_id)] * proc.stalled
        found += [("expire", holder) for holder in slots if not slots[holder].expired and not self._kept(holder)]
        found += [("pause ends", holder) for holder, over in self.pool.aside.items() if not over]
        return found + [("resize", 1)] * (self.pool.limit == 0)

    def disasters(self, steps: list[Action]) -> list[Action]:
        """The faults that can strike now."""
        pool, procs = self.pool, self.procs.values()
        tasks = [task for task in self.tasks if task[0] not in "FW"]
        found: dict[str, list[Action]] = {
            "crash": [("crash", worker) for worker in {proc.worker for proc in procs}],
            "lose": [(step[0] + "?", *step[1:]) for step in steps if step[0] in ("deliver", "sweep", "call")],
            "duplicate": [("duplicate", copy._replace(owner=-1)) for copy in set(self.copies) if copy.holder in tasks],
            "stall": [("stall", h) for h, slot in pool.slots.items() if not slot.expired and self._kept(h)],
            "hint": [("hint", proc.request_id) for proc in procs if proc.at == "offered"],
            "put_back": [("put_back", proc.request_id) for proc in procs if proc.at == "offered"],
            "revoke": [("revoke", task, w) for task in tasks if task not in self.waived for w in self.workers],
            "leave": [("leave", proc.request_id) for proc in procs if proc.at == "waiting"],
            "resize": [("resize", limit) for limit in (0, 1, 2) if limit != pool.limit],
            "requeue": [("requeue", proc.request_id) for proc in procs if proc.runs and proc.holder[0] == "L"],
            "forget": [("forget", holder) for holder in pool.tombstones],
        }
        return [fault for kind in self.kinds if self.faults for fault in found[kind]]

    def after(self, action: Action, fault: bool) -> World:
        """The world one step later, checked."""
        world: World = clone(self)
        world.faults -= fault
        world.lossy = action[0].endswith("?")
        world.do(action[0].rstrip("?"), *action[1:])
        world.check(self)
        return world

    def do(self, *action: Any) -> None:
        pool, procs = self.pool, self.procs
        match action:
            case "deliver", copy, worker:
                self.request_ids += 1
                message = copy.holder[0] not in "FW"
                self.copies.remove(copy)
                self.copies += [copy._replace(owner=self.request_ids)] if message else []
                made = Proc(self.request_ids, worker, copy.holder, "arrived", hint=copy.hint, copy=message)
                self._call(made._replace(starter=copy.starter))
            case "call", request_id:
                self._call(procs[request_id])
            case "ack", request_id:
                proc = procs.pop(request_id)
                procs |= {} if proc.at == "ended" else {request_id: proc._replace(copy=False)}
                self.copies = [copy for copy in self.copies if copy.owner != request_id]
            case "renew", request_id:
                lost = self._send("renew", procs[request_id].holder, procs[request_id].token).status == "lost"
                procs[request_id] = procs[request_id]._replace(stalled=lost)  # if lost, the run learns LeaseLost
            case "sweep", worker:
                self._offer(self._send("sweep"), worker)
            case (("expire" | "stall"), holder):
                slot = pool.slots[holder] = pool.slots[holder]._replace(expired=True)
                if slot.request_id in procs and procs[slot.request_id].runs:
                    procs[slot.request_id] = procs[slot.request_id]._replace(stalled=True)
                    self.excused |= {holder}
            case "resize", limit:
                pool.given_limit = limit
            case "crash", worker:
                self._crash(worker)
            case "duplicate", copy:
                self.copies.append(copy)
            case "hint", request_id:  # this worker cannot start the heir: a hint goes to the task's queue
                proc = procs.pop(request_id)
                self.copies.append(Copy(proc.holder, hint=True, starter=proc.starter))
            case "put_back", request_id:  # this worker does not know the task, or may not start it yet
                proc = procs.pop(request_id)
                self._offer(self._send("put_back", proc.holder, proc.token, pause=True), proc.worker)
            case "pause ends", holder:
                pool.aside[holder] = True
            case "revoke", holder, worker:
                runs = holder in pool.slots and pool.slots[holder].request_id is not None
                self.barred |= set() if runs else {holder}
                self.waived |= {holder}
                self._offer(self._send("withdraw", holder), worker)
            case "leave", request_id:
                proc = procs.pop(request_id)
                self.waived |= {proc.holder}
                self._send("withdraw", proc.holder, can_start_heirs=False)
            case "requeue", request_id:
                proc = procs.pop(request_id)
                self.excused |= {proc.holder}
                self._return_unacknowledged()
                self._offer(self._send("release", proc.holder, proc.token, requeue=True), proc.worker)
            case "forget", holder:  # the TTL of a tombstone is over
                del pool.tombstones[holder]
                self.excused |= {holder}
                self.barred -= {holder}

    def _crash(self, worker: int) -> None:
        slots = self.pool.slots
        for proc in [proc for proc in self.procs.values() if proc.worker == worker]:
            if proc.runs or (proc.holder in slots and slots[proc.holder].request_id == proc.request_id):
                self.excused |= {proc.holder}  # it was let in and not yet out
            lost_early = proc.runs and proc.early and not proc.copy and not proc.reports_start
            if proc.holder[0] in "FW" or lost_early:
                self.waived |= {proc.holder}
            del self.procs[proc.request_id]
        self._return_unacknowledged()

    def _return_unacknowledged(self) -> None:
        self.copies = [copy if copy.owner in self.procs else copy._replace(owner=-1) for copy in self.copies]

    def _call(self, proc: Proc) -> None:
        """Send the next script of this process. If the reply is lost it stays where it is, and will send it again."""
        holder, request_id = proc.holder, proc.request_id
        self.procs[request_id] = proc
        if proc.reports_start:
            self.procs[request_id] = proc._replace(at="acked")
            return self._offer(self._send("renew", holder, proc.token, started=True), proc.worker)
        if proc.at in ("arrived", "offered", "waiting"):
            reply = self._send(*self._request(proc)[0], **self._request(proc)[1])
        else:
            self.ended |= {holder}
            self.procs[request_id] = proc._replace(at="releasing")
            direct = holder[0] in "FW"
            options = {"request_id": request_id, "can_start_heirs": not direct, "reserve_for_me": not direct}
            reply = self._send("release", holder, proc.token, **options)
        if reply and reply.status == "granted":
            must(holder not in self.begun - self.excused, f"{holder} runs a second time and nothing explains it")
            must(holder not in self.barred, f"{holder} was withdrawn and starts")
            self.begun |= {holder}
            self.procs[request_id] = proc._replace(at="running", token=reply.token)
        elif reply and holder[0] == "W" and reply.status == "parked":
            self.procs[request_id] = proc._replace(at="waiting")
        elif reply:
            self.waived |= {holder} if reply.status == "full" else set()
            del self.procs[request_id]
            self.procs |= {request_id: proc._replace(at="ended", token=0)} if proc.copy else {}
        starter = request_id if proc.runs or proc.at == "releasing" else None
        return self._offer(reply, proc.worker, starter)

    @staticmethod
    def _request(proc: Proc) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kind = proc.holder[0]
        if kind == "W":
            return ("wait_in_queue", proc.holder, proc.request_id), {}
        if proc.hint:
            return ("start_reserved", proc.holder, proc.request_id), {"starter": proc.starter}
        options = {"ticket": kind != "F", "park": kind in "LE", "can_start_heirs": kind != "F"}
        return ("acquire", proc.holder, proc.request_id), options

    def _send(self, script: str, *args: Any, **options: Any) -> Any:
        """Run a script; and again on a copy: it must answer the same and leave this holder's records as they are."""
        reply: Reply = getattr(self.pool, script)(*args, **options)
        if args and len(reply.heirs) < BATCH:
            twin, homes = clone(self.pool), ("slots", "queue", "tickets", "tombstones")
            second = getattr(twin, script)(*args, **options)
            same = all(getattr(twin, home).get(args[0]) == getattr(self.pool, home).get(args[0]) for home in homes)
            requests = ("acquire", "start_reserved", "wait_in_queue")
            same &= reply == second or (script in requests and reply[:2] == second[:2])
            must(same, f"{script} of {args[0]} replies {reply}; sent again, {second}")
        return None if self.lossy else reply

    def _offer(self, reply: Reply | None, worker: int, starter: int | None = None) -> None:
        """The worker starts the heirs of a reply."""
        for holder, token in reply.heirs if reply else ():
            self.request_ids += 1
            slot = self.pool.slots.get(holder)
            known = starter if slot is not None and slot.starter == starter else None
            made = Proc(self.request_ids, worker, holder, "offered", token, hint=True, starter=known)
            self.procs[self.request_ids] = made

    def _kept(self, holder: str) -> bool:
        """A live process renews this lease, or comes before the reservation ends."""
        slot = self.pool.slots[holder]
        offers = [(proc.holder, proc.token) for proc in self.procs.values() if proc.at == "offered"]
        waits = any(proc.holder == holder and proc.at == "waiting" for proc in self.procs.values())
        return slot.request_id in self.procs or (holder, slot.token) in offers or (waits and slot.request_id is None)

    def _matters(self, script: str, *args: Any) -> bool:
        """Would this script change the pool, or answer anything but "it waits"?"""
        twin = clone(self.pool)
        reply: Reply = getattr(twin, script)(*args)
        return reply.status not in ("swept", "parked") or _state(twin) != _state(self.pool)

    def check(self, before: World) -> None:
        """What must hold after every step."""
        pool, old = self.pool, before.pool
        slots, queue, tickets = pool.slots, pool.queue, pool.tickets
        must(len(slots) <= max(pool.limit, len(old.slots)), f"{len(slots)} slots taken, the limit is {pool.limit}")
        for proc in self.procs.values():
            slot = slots.get(proc.holder)
            mine = slot is not None and (slot.token, slot.request_id) == (proc.token, proc.request_id)
            must(mine or proc.stalled or not proc.runs, f"{proc.holder} runs without a slot, and it never stalled")
        must(not slots.keys() & queue.keys(), "a holder is parked and has a slot")
        reserved = [holder for holder, slot in slots.items() if slot.request_id is None]
        must(all(holder in tickets for holder in [*queue, *reserved]), "a ticket, no envelope")
        must(tickets.keys() <= slots.keys() | queue.keys(), "an envelope without a ticket")
        must(
            all(tickets[holder].rank == rank for holder, rank in queue.items()), "a rank that its ticket does not know"
        )
        must(pool.indexed or not tickets, "a pool with tickets is missing from the index: no reaper would come")
        must(all(h in slots and slots[h].request_id is None for h, _ in pool.notified), "notified without a slot")
        new = [holder for holder in queue if holder not in old.queue | old.slots and not tickets[holder].returned]
        newcomers = [queue[holder] for holder in new]
        must(all(rank.number > old.counter for rank in newcomers), "a newcomer jumps in")
        for holder, slot in slots.items():
            if holder not in old.slots or old.slots[holder].token != slot.token:
                self._check_grant(holder, slot, old)

    def _check_grant(self, holder: str, slot: Slot, old: Pool) -> None:
        tickets = self.pool.tickets
        must(slot.token > old.counter, f"the token of {holder} does not grow")
        ticket = tickets.get(holder) or old.tickets.get(holder)
        if ticket is not None and ticket.returned:
            return
        number = ticket.rank.number if ticket else slot.token
        still = [(h, rank) for h, rank in self.pool.queue.items() if old.queue.get(h) == rank and h not in old.aside]
        older = [h for h, rank in still if rank.number < number and not tickets[h].returned]
        must(not older, f"{holder} gets a slot before {older}, which came first")

    def check_end(self) -> None:
        """What must hold where nothing is left to do: no message, no process, nothing to sweep."""
        pool = self.pool
        must(not pool.tickets, f"stranded: {[*pool.tickets]}, with {len(pool.slots)} of {pool.limit} slots taken")
        must(all(slot.expired for slot in pool.slots.values()), "a slot stays")  # expired ones go with their key's TTL
        for task in self.tasks:
            must(task in self.ended | self.waived, f"{task} never ran to its end")

    def key(self) -> int:
        """The same for states that differ only by names of processes, or by how far the counter has come."""
        pool, slots = self.pool, self.pool.slots
        owners = {slot.request_id for slot in slots.values()}
        starters = {holder: slot.starter for holder, slot in slots.items() if slot.starter is not None}
        procs = sorted(self.procs.values(), key=lambda p: (p[2:-1], p.request_id in owners, p.worker))
        worker = {w: i for i, w in enumerate(dict.fromkeys(proc.worker for proc in procs))}
        ranks = {holder: ticket.rank.number for holder, ticket in pool.tickets.items()}
        numbers = {slot.token for slot in slots.values()} | {proc.token for proc in procs} | {*ranks.values()}
        order = {number: i for i, number in enumerate(sorted(numbers))}
        memory = [(p, pool._last(p.holder)[0]) for p in procs if p.at == "releasing"]
        return hash((
            tuple(
                (worker[p.worker], p[2:4], order[p.token], p[5:-1], p.request_id in owners, _mine(p, starters))
                for p in procs
            ),
            frozenset(
                (h, order[s.token], s.request_id is None, s.request_id in self.procs, s.starter is None, s[3:])
                for h, s in slots.items()
            ),
            frozenset(
                (h, h in pool.queue, order[ranks[h]], t.kind, t.returned, min(t.unused, 3))
                for h, t in pool.tickets.items()
            ),
            frozenset(pool.aside.items()),
            frozenset((h, final) for h, (_, final) in pool.tombstones.items()),
            frozenset((p.holder, r.status, r.token == p.token, pool._reply("", 0, r.heirs)[2:]) for p, r in memory),
            tuple(sorted((c[:3], _mine(c, starters)) for c in self.copies if c.owner < 0)),
            pool.limit, pool.indexed, self.faults, self.begun, self.ended, self.excused, self.waived, self.barred,
        ))  # fmt: skip


def _mine(who: Proc | Copy, starters: dict[str, Any]) -> bool:
    """May it start the slot that is reserved for its holder?"""
    return who.starter is not None and starters.get(who.holder) == who.starter


def _state(pool: Pool) -> dict[str, Any]:
    return {name: value for name, value in vars(pool).items() if name not in ("notified", "counter")}


def clone(thing: Any) -> Any:
    twin = object.__new__(type(thing))
    for name, value in vars(thing).items():
        twin.__dict__[name] = value.copy() if isinstance(value, (dict, list)) else value
    if isinstance(thing, World):
        twin.pool = clone(thing.pool)
    return twin
