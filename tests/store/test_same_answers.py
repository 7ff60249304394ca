"""The protocol's model, the store in memory and the Lua scripts answer the same to any history of commands."""

import itertools
import os
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cachify_tasks._core.commands import (
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
from cachify_tasks._core.replies import HolderView, Reply
from cachify_tasks._store.memory_pool import Pool
from cachify_tasks._store.records import ASIDE
from tests.protocol_model.comparison import Comparison
from tests.support.stores import BEGIN, CHANNELS, POOL, Store, opened

# CACHIFY_EXAMPLES=1000 looks longer, and at random.
EXAMPLES = int(os.getenv("CACHIFY_EXAMPLES", "0"))
SETTINGS = settings(
    max_examples=EXAMPLES or 60,
    stateful_step_count=40,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

TASKS = ["t:0", "t:1", "u:7", "a", "b"]
FUNCTIONS = ["v", "w", "x:y"]
holders = st.sampled_from(TASKS + FUNCTIONS)
limits = st.sampled_from([1, 1, 1, 2, 3])
flags = st.booleans()


class TwoStores(RuleBasedStateMachine):
    """Sends every command to both stores and to the model, now and then twice, as after a lost reply."""

    def __init__(self, memory: Store, redis_store: Store) -> None:
        super().__init__()
        self.memory, self.redis = memory, redis_store
        self.request_ids = itertools.count(1)
        self.sent: list[PoolCommand] = []
        self.tokens: dict[str, list[int]] = {}
        self.started: set[int] = set()
        self.held = self.highest = 0
        self.override: int | None = None
        self.starters: set[int] = set()  # tokens of heirs whose slots have a starter
        self.notified: list[tuple[str, int]] = []  # waiters, each with its token
        self.heard: list[tuple[str, int]] = []
        self.comparison = Comparison()
        memory.listen(*CHANNELS)
        redis_store.listen(*CHANNELS)

    @initialize()
    def begin(self) -> None:
        for store in (self.memory, self.redis):
            store.forget()
            store.now = BEGIN
        self.comparison = Comparison()
        self.memory.store._until_purge = 10**9  # Redis remembers an idle pool's limit longer

    @rule(
        holder=st.sampled_from(TASKS), limit=limits, park=flags, can_start_heirs=flags, lost=flags,
        priority=st.sampled_from([0, 0, 0, 1, 255]), max_parked=st.sampled_from([0, 0, 1, 2]),
        first_delivery=st.sampled_from([False, False, False, True]), by_worker=flags,
        slot_exp_ms=st.sampled_from([0, 0, 0, 7_000, 45_000]), envelope=st.sampled_from([b"message", b"message", b""]),
    )  # fmt: skip
    def acquire(
        self, holder: str, limit: int, lost: bool, park: bool, envelope: bytes, priority: int, max_parked: int,
        **options: Any,
    ) -> None:  # fmt: skip
        ticket = Ticket(
            kind="task/test", envelope=envelope, task_id=holder.rpartition(":")[0], park=park, priority=priority,
            max_parked=max_parked,
        )  # fmt: skip
        command = Acquire(**self.request(holder, limit, "task", options), ticket=ticket if envelope else None)
        self.send(command, lost=lost)

    @rule(
        holder=st.sampled_from(TASKS), limit=limits, can_start_heirs=flags, lost=flags,
        slot_exp_ms=st.sampled_from([0, 0, 0, 7_000, 45_000]), starter=st.sampled_from(["", "", "none"]),
        by_worker=flags,
    )  # fmt: skip
    def start_reserved(self, holder: str, limit: int, lost: bool, **options: Any) -> None:
        self.send(StartReserved(**self.request(holder, limit, "task", options)), lost=lost)

    @rule(holder=st.sampled_from(FUNCTIONS * 3 + TASKS), limit=limits, channel=st.sampled_from(CHANNELS), lost=flags)
    def wait(self, holder: str, limit: int, channel: str, lost: bool) -> None:
        self.send(WaitInQueue(**self.request(holder, limit, "w", {"channel": channel})), lost=lost)

    def new_id(self) -> str:
        return f"request{next(self.request_ids)}"

    def request(self, holder: str, limit: int, label: str, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "pool": POOL, "holder": holder, "request_id": self.new_id(), "limit": limit,
            "lease_ms": 30_000, "start_ms": 10_000, "label": label, **options,
        }  # fmt: skip

    @precondition(lambda self: self.notified)
    @rule(which=st.integers(0, 1), leaves=flags)
    def a_notified_waiter_asks_again_or_leaves(self, which: int, leaves: bool) -> None:
        holder, _ = self.notified[-1 - which % len(self.notified)]
        waits = [c for c in self.sent if isinstance(c, WaitInQueue) and c.holder == holder]
        if leaves:
            self.send(Withdraw(pool=POOL, holder=holder, start_ms=10000, tomb_ms=10000))
            return
        held = {view.holder: view for view in self.memory.inspect().holders}
        reply = self.send(waits[-1])

        if holder in held and held[holder].reserved:
            assert (reply.status, reply.token) == ("granted", held[holder].token)

    @rule(holder=st.sampled_from(TASKS), priority=st.sampled_from([0, 0, 1]), lost=flags)
    def a_new_task_parks(self, holder: str, priority: int, lost: bool) -> None:
        ticket = Ticket(kind="task/test", envelope=b"new", task_id=holder.rpartition(":")[0], priority=priority)
        options = {"first_delivery": True, "can_start_heirs": lost}
        ask = Acquire(**self.request(holder, 1, "t", options), ticket=ticket)
        self.send(ask, lost=lost)

    @precondition(lambda self: self.views(reserved=False))
    @rule(
        which=st.integers(0, 3),
        requeue=st.sampled_from([False, False, True]),
        can_start_heirs=flags,
        reserve_for_me=flags,
        died=flags,
        lost=flags,
    )
    def a_run_ends(
        self, which: int, requeue: bool, can_start_heirs: bool, reserve_for_me: bool, lost: bool, died: bool = False
    ) -> None:
        views = self.views(reserved=False)
        view = views[which % len(views)]
        command = Release(
            pool=POOL,
            holder=view.holder,
            token=view.token,
            request_id="none",
            start_ms=10000,
            tomb_ms=10000,
            requeue=requeue,
            can_start_heirs=can_start_heirs,
            reserve_for_me=reserve_for_me,
            died=died,
        )
        reply = self.send(command, lost=lost)
        if reserve_for_me:
            self.starters.update(heir.token for heir in reply.heirs)

    @precondition(lambda self: self.views(reserved=True))
    @rule(which=st.integers(0, 3), lost=flags)
    def a_heir_starts(self, which: int, lost: bool) -> None:
        views = self.views(reserved=True)
        view = views[which % len(views)]
        request_id = self.new_id()
        starter = "none" if view.token in self.starters else ""
        ask = StartReserved(
            pool=POOL,
            holder=view.holder,
            request_id=request_id,
            limit=1,
            lease_ms=30000,
            start_ms=10000,
            can_start_heirs=True,
            starter=starter,
        )
        if starter:
            assert self.send(replace(ask, request_id=f"{request_id}-foreign", starter="other")).status == "dropped"
        assert self.send(ask, lost=lost).token == view.token

    @precondition(lambda self: self.views(reserved=True))
    @rule(
        which=st.integers(0, 3), pause_ms=st.sampled_from([0, 1_000, 1_000, 30_000]), unknown=flags,
        can_start_heirs=flags, lost=flags,
    )  # fmt: skip
    def a_heir_is_put_back(self, which: int, lost: bool, **options: Any) -> None:
        tasks = [view for view in self.views(reserved=True) if view.holder in TASKS]
        if tasks:
            view = tasks[which % len(tasks)]
            command = PutBack(
                pool=POOL, holder=view.holder, token=view.token, start_ms=10_000, tomb_ms=10_000, **options
            )
            assert self.send(command, lost=lost).status == "returned"

    def views(self, *, reserved: bool) -> list[HolderView]:
        return [view for view in self.memory.inspect().holders if view.reserved == reserved]

    @rule(holder=holders, which=st.integers(0, 9), started=flags, lost=flags)
    def renew(self, holder: str, which: int, started: bool, lost: bool) -> None:
        token = self.token(holder, which)
        if any(view.token == token for view in self.views(reserved=True)):  # nobody renews what has not started
            return
        started = started and token in self.started  # an heir reports its start, having started
        self.send(Renew(pool=POOL, holder=holder, token=token, lease_ms=30000, started=started), lost=lost)

    @rule(holder=holders, which=st.sampled_from([0, 0, 0, 0, 1, 2]), requeue=flags, can_start_heirs=flags, lost=flags)
    def release(self, holder: str, which: int, requeue: bool, can_start_heirs: bool, lost: bool) -> None:
        token = self.token(holder, which)
        self.send(
            Release(
                pool=POOL,
                holder=holder,
                token=token,
                request_id="none",
                start_ms=10000,
                tomb_ms=300000,
                requeue=requeue,
                can_start_heirs=can_start_heirs,
            ),
            lost=lost,
        )

    @precondition(lambda self: any(isinstance(c, SlotRequest) for c in self.sent))
    @rule(which=st.integers(0, 3), requeue=flags)
    def take_back(self, which: int, requeue: bool) -> None:
        asked = [command for command in self.sent if isinstance(command, SlotRequest)]
        ask = asked[-1 - which % len(asked)]
        self.send(
            Release(
                pool=POOL,
                holder=ask.holder,
                token=0,
                request_id=ask.request_id,
                start_ms=10000,
                tomb_ms=300000,
                requeue=requeue,
            )
        )

    @rule(holder=holders, can_start_heirs=flags, lost=flags)
    def withdraw(self, holder: str, can_start_heirs: bool, lost: bool) -> None:
        self.send(
            Withdraw(pool=POOL, holder=holder, start_ms=10000, tomb_ms=300000, can_start_heirs=can_start_heirs),
            lost=lost,
        )

    @rule(lost=flags)
    def sweep(self, lost: bool) -> None:
        reply = self.send(Sweep(pool=POOL, start_ms=10000), lost=lost)

        assert reply.held >= reply.limit or all(rank > ASIDE for rank in self.memory.ranks().values())

    @rule(limit=st.sampled_from([None, None, 0, 1, 2, 3]), can_start_heirs=flags)
    def configure(self, limit: int | None, can_start_heirs: bool) -> None:
        self.send(Configure(pool=POOL, limit=limit, start_ms=10000, can_start_heirs=can_start_heirs))
        self.override = limit

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 5))
    def send_an_old_command_again(self, which: int) -> None:
        command = self.sent[-1 - which % len(self.sent)]
        self.send(command)
        if isinstance(command, Configure):
            self.override = command.limit

    @rule(seconds=st.sampled_from([0.000001, 1, 5, 10.000001, 31, 100]))
    def time_passes(self, seconds: float) -> None:
        for store in (self.memory, self.redis):
            store.later(seconds)

    @precondition(lambda self: self.views(reserved=True))
    @rule(times=st.integers(1, 5))
    def nobody_starts_what_is_reserved(self, times: int) -> None:
        for _ in range(times):
            self.time_passes(100)
            self.sweep(lost=False)

    @precondition(lambda self: self.memory.channels())
    @rule(seconds=st.sampled_from([0, 11, 31]))
    def a_waiter_asks_without_a_notification(self, seconds: float) -> None:
        self.time_passes(seconds)
        holder = min(self.memory.channels(), key=lambda holder: self.memory.tickets()[holder].rank)
        self.send([c for c in self.sent if isinstance(c, WaitInQueue) and c.holder == holder][-1])

    @precondition(lambda self: self.memory.ranks() and self.views(reserved=False))
    @rule(holder=st.sampled_from(TASKS), priority=st.sampled_from([0, 1, 2, 255]))
    def a_newcomer_finds_a_free_slot_that_nobody_has_reserved(self, holder: str, priority: int) -> None:
        self.a_run_ends(0, requeue=False, can_start_heirs=False, reserve_for_me=False, lost=False)
        ticket = Ticket(kind="task/test", envelope=b"new", task_id=holder.rpartition(":")[0], priority=priority)
        self.send(Acquire(**self.request(holder, 1, "new", {"first_delivery": True}), ticket=ticket))

    @rule()
    def the_pools_are_listed(self) -> None:
        assert self.redis.pools() == self.memory.pools()
        assert self.redis.ticketed() == self.memory.ticketed()
        assert self.redis.due() == self.memory.due()

    @rule()
    def the_server_forgets_its_scripts(self) -> None:
        self.redis.client.script_flush()

    def send(self, command: PoolCommand, *, lost: bool = False) -> Reply:
        reply: Reply = self.both(command)
        if lost:
            requeue = self.both(command)
            part = slice(0, 2) if isinstance(command, SlotRequest | Sweep) else slice(None)
            assert requeue[part] == reply[part]
        self.sent.append(command)
        granted = [(heir.holder, heir.token) for heir in reply.heirs] + self.notifications()
        if isinstance(command, SlotRequest) and reply.status == "granted":
            granted.append((command.holder, reply.token))
            self.started.add(reply.token)
        for holder, token in sorted(granted, key=lambda grant: grant[1]):
            known = self.tokens.setdefault(holder, [])
            if token not in known:
                assert token > self.highest
                self.highest = token
                known.append(token)
        return reply

    def both(self, command: PoolCommand) -> Reply:
        self.comparison.before(self.memory.store._pools.get(POOL) or Pool(), self.memory.now)
        reply: Reply = self.memory.send(command)
        assert self.redis.send(command) == reply
        heard = self.memory.heard()
        assert self.redis.heard() == heard
        self.heard += [call[1:] for call in heard]
        self.comparison.after(command, reply, self.memory.store._pools[POOL], [call[1:] for call in heard])

        if isinstance(
            command, SlotRequest | Sweep | Configure
        ):  # these leave no free slot beside a function that waits
            first = min(self.memory.ranks().items(), key=lambda item: item[1], default=("", 0))[0]
            assert first not in self.memory.channels() or reply.held >= reply.limit
        assert all(heir.kind == "task/test" and heir.envelope for heir in reply.heirs)
        assert reply.held <= max(reply.limit, self.held)
        self.held = reply.held
        return reply

    def notifications(self) -> list[tuple[str, int]]:
        """The waiters notified since the last look."""
        heard, self.heard = self.heard, []
        self.notified += heard
        return heard

    def token(self, holder: str, which: int) -> int:
        known = self.tokens.get(holder, [1])
        return known[-1 - which % len(known)]

    @invariant()
    def both_show_the_same(self) -> None:
        assert self.redis.inspect() == self.memory.inspect()
        assert self.redis.size() == self.memory.size()
        assert self.redis.envelopes() == self.memory.envelopes()
        assert self.redis.channels() == self.memory.channels()
        assert self.redis.tickets() == self.memory.tickets()
        assert self.redis.ranks() == self.memory.ranks()
        assert self.redis.due_at() == self.memory.due_at()

    @invariant()
    def both_find_the_same_tasks_and_only_those_with_a_ticket(self) -> None:
        envelopes = self.memory.envelopes()
        found = {task: self.memory.find(task) for task in "tux"}

        assert {task: self.redis.find(task) for task in "tux"} == found
        assert {holder for holder in found.values() if holder} <= envelopes.keys()
        assert (found["u"] == "u:7") == ("u:7" in envelopes)  # the only attempt of its task

    @invariant()
    def a_reaper_is_due_at_a_free_slot_and_a_ticket(self) -> None:
        view, due = self.memory.inspect(), self.memory.due_at()
        held = len(self.memory.store._pools[POOL].slots) if self.memory.tickets() else 0

        if view.waiting and held < view.limit:
            assert due is not None
            assert due <= max(self.memory.now, min(self.memory.ranks().values()) - ASIDE)

    @invariant()
    def what_waits_has_a_ticket_and_no_slot(self) -> None:
        waiting, tickets = self.memory.ranks(), self.memory.tickets()
        views = self.memory.inspect().holders

        assert not waiting.keys() & {view.holder for view in views}
        assert waiting.keys() | {view.holder for view in views if view.reserved} <= tickets.keys()
        assert all(tickets[holder].rank == rank for holder, rank in waiting.items() if rank < ASIDE)

    @invariant()
    def keys_have_no_ttl_only_while_there_are_tickets_or_an_override(self) -> None:
        immortal = {key for key in self.redis.client.scan_iter() if self.redis.client.pttl(key) == -1}
        names = {key.decode().rpartition(":")[2] for key in immortal}

        if self.memory.tickets():
            assert {"state", "tickets"} <= names
        else:
            assert names == ({"state"} if self.override is not None else set())


def test_both_stores_answer_the_same_to_any_history(redis_url):
    with opened("memory-sync") as memory, opened("redis-sync", redis_url) as redis_store:
        machine: Any = lambda: TwoStores(memory, redis_store)  # noqa: E731  # it takes a factory, and is typed for a class
        run_state_machine_as_test(machine, settings=SETTINGS)
        redis_store.client.flushdb()
