"""Follows a store with the model: runs each of its commands on both, and compares the answers and what is kept."""

from __future__ import annotations

from typing import Any, Final, assert_never

from cachify_tasks._core.commands import (
    Acquire,
    Configure,
    PoolCommand,
    PutBack,
    Release,
    Renew,
    StartReserved,
    Sweep,
    WaitInQueue,
    Withdraw,
)
from cachify_tasks._core.replies import Reply as StoreReply
from cachify_tasks._store.memory_pool import Pool as MemoryPool
from cachify_tasks._store.records import ASIDE, BATCH, LEVEL, SlotRecord

from . import pool as model

START_MS: Final = 10_000  # of all commands that are compared


class Model(model.Pool):
    """The model, told by a store which deadlines have passed."""

    batch = BATCH

    def __init__(self) -> None:
        super().__init__()
        self.deadlines: dict[str, int] = {}
        self.pauses: dict[str, int] = {}  # when they end

    def _by_pause(self, holder: str) -> Any:
        return self.pauses.get(holder, 0), holder

    def _by_deadline(self, item: tuple[str, model.Slot]) -> Any:
        return self.deadlines.get(item[0], 0), item[0]


class Comparison:
    """The model beside one pool of a store in memory. Its numbers are other ones: both grow in the same order."""

    def __init__(self) -> None:
        self.model = Model()
        self._stores: dict[int, int] = {}  # the model's number -> the store's
        self._models: dict[int, int] = {}

    def before(self, kept: MemoryPool, now: int) -> None:
        """Tell the model what has expired by now."""
        self.model.deadlines = dict(kept.deadlines)
        self._learn_pauses(kept)
        self.model.aside = {holder: until <= now for holder, until in self.model.pauses.items()}
        for holder, slot in self.model.slots.items():
            hard_limit = kept.slots[holder].hard_limit
            over = bool(hard_limit) and now >= hard_limit
            self.model.slots[holder] = slot._replace(expired=kept.deadlines[holder] < now, at_hard_limit=over)
        for holder in [h for h, tombstone in kept.tombstones.items() if tombstone.until <= now]:
            self.model.tombstones.pop(holder, None)

    def after(self, command: PoolCommand, reply: StoreReply, kept: MemoryPool, notified: list[tuple[str, int]]) -> None:
        """Run the command on the model too, and compare."""
        answer = self._run(command)
        for slot in self.model.slots.values():  # learn the numbers that were drawn
            self._learn(slot.token, kept, self.model.slots, "slots")
        for ticket in self.model.tickets.values():
            self._learn(ticket.rank.number, kept, self.model.tickets, "tickets")
        assert (answer.status, self._store(answer.token)) == (reply.status, reply.token)
        assert [(h, self._store(t)) for h, t in answer.heirs] == [(heir.holder, heir.token) for heir in reply.heirs]
        assert [(h, self._store(t)) for h, t in self.model.notified] == notified
        assert (len(self.model.slots), self.model.limit) == (reply.held, reply.limit)
        self._compare(kept)

    def _learn_pauses(self, kept: MemoryPool) -> None:
        self.model.pauses = {holder: rank - ASIDE for holder, rank in kept.queue.items() if rank >= ASIDE}

    def _learn(self, number: int, kept: MemoryPool, known: dict[str, Any], home: str) -> None:
        if number in self._stores:
            return
        holder = next(h for h, found in known.items() if _number(found) == number)
        assert holder in getattr(kept, home)
        if home == "slots":
            value = kept.slots[holder].token
        else:
            value = kept.tickets[holder].rank + kept.tickets[holder].priority * LEVEL
        self._stores[number] = value
        self._models[value] = number
        pairs = sorted(self._stores.items())
        assert [store for _, store in pairs] == sorted(self._models)  # in the same order, none twice

    def _store(self, number: int) -> int:
        return self._stores.get(number, abs(number))

    def _compare(self, kept: MemoryPool) -> None:
        pool = self.model
        assert pool.slots.keys() == kept.slots.keys()
        for holder, slot in pool.slots.items():
            record: SlotRecord = kept.slots[holder]
            found = (slot.request_id or "", slot.starter or "", self._store(slot.token))
            assert found == (record.request_id, record.starter, record.token)
            if record.reserved:
                assert kept.deadlines[holder] - record.since == START_MS * 1000 * slot.life
        self._learn_pauses(kept)
        assert pool.aside.keys() == pool.pauses.keys()
        order = sorted(pool.queue, key=pool.place)
        assert order == sorted(kept.queue, key=kept.queue.__getitem__)
        assert pool.tickets.keys() == kept.tickets.keys()
        for holder, ticket in pool.tickets.items():
            record_of = kept.tickets[holder]
            found_ticket = (
                ticket.kind == model.WAITER,
                ticket.returned,
                ticket.unused,
                ticket.deaths,
                ticket.task_id,
                -ticket.rank.before,
            )
            assert found_ticket == (
                record_of.kind == "waiter", record_of.returned > 0, record_of.unused, record_of.deaths,
                record_of.task_id, record_of.priority,
            )  # fmt: skip
        assert pool.tasks == kept.tasks
        assert pool.indexed == bool(kept.tickets)
        for holder, (_, final) in pool.tombstones.items():
            assert kept.tombstones[holder].final == final

    def _run(self, command: PoolCommand) -> model.Reply:
        pool = self.model
        match command:
            case Acquire(ticket=None):
                return pool.acquire(
                    command.holder, command.request_id, limit=command.limit, ticket=False,
                    first_delivery=command.first_delivery, by_worker=command.by_worker,
                    can_start_heirs=command.can_start_heirs,
                )  # fmt: skip
            case Acquire(ticket=ticket):
                assert ticket is not None
                return pool.acquire(
                    command.holder, command.request_id, limit=command.limit, park=ticket.park,
                    priority=ticket.priority, max_parked=ticket.max_parked, task_id=ticket.task_id,
                    first_delivery=command.first_delivery, by_worker=command.by_worker,
                    can_start_heirs=command.can_start_heirs,
                )  # fmt: skip
            case StartReserved():
                return pool.start_reserved(
                    command.holder, command.request_id, starter=command.starter or None, limit=command.limit,
                    by_worker=command.by_worker, can_start_heirs=command.can_start_heirs,
                )  # fmt: skip
            case WaitInQueue():
                return pool.wait_in_queue(command.holder, command.request_id, limit=command.limit)
            case Renew():
                return pool.renew(command.holder, self._model(command.token), started=command.started)
            case Release():
                return pool.release(
                    command.holder, self._model(command.token), request_id=command.request_id,
                    requeue=command.requeue, can_start_heirs=command.can_start_heirs,
                    reserve_for_me=command.reserve_for_me, died=command.died,
                )  # fmt: skip
            case Withdraw():
                return pool.withdraw(command.holder, can_start_heirs=command.can_start_heirs)
            case PutBack():
                return pool.put_back(
                    command.holder, self._model(command.token), pause=command.pause_ms > 0,
                    can_start_heirs=command.can_start_heirs,
                )  # fmt: skip
            case Sweep():
                return pool.sweep(can_start_heirs=command.can_start_heirs)
            case Configure():
                return pool.configure(command.limit, can_start_heirs=command.can_start_heirs)
            case _:
                assert_never(command)

    def _model(self, token: int) -> int:
        """The model's number for the store's; one that nobody has drawn stays apart from all others."""
        return self._models.get(token, -token)


def _number(found: model.Slot | model.Ticket) -> int:
    return found.token if isinstance(found, model.Slot) else found.rank.number
