"""Which event tells the program's listeners of a verdict."""

from __future__ import annotations

from .._core.decisions import FullPool
from .._core.replies import Reply
from .._runtime.events import CopyDiscarded, Event, PoolFull, StandbyKept, TaskParked
from .port import Delivery, TaskRequest
from .verdicts import Discard, Done, Revoke, SendLater, StartWith, Verdict


def event_of(verdict: Verdict, delivery: Delivery, command: TaskRequest, reply: Reply) -> Event | None:
    """The event of a verdict; None: it is the usual course of things, or announced elsewhere."""
    match verdict:
        case Done("parked"):
            return TaskParked(
                pool=command.pool,
                holder=command.holder,
                task_id=delivery.attempt.task_id,
                label=delivery.task_name,
                limit=reply.limit,
                held=reply.held,
            )
        case Done():
            return StandbyKept(pool=command.pool, holder=command.holder, label=shown(delivery))
        case Discard():
            return CopyDiscarded(pool=command.pool, holder=command.holder, label=shown(delivery))
        case StartWith(full, decision):
            return pool_full(full, delivery, type(decision).__name__)
        case Revoke(full):
            return pool_full(full, delivery, "Skip")
        case SendLater(full=FullPool() as full):
            return pool_full(full, delivery, "Defer")
        case _:
            return None


def pool_full(full: FullPool, delivery: Delivery, decision: str) -> PoolFull:
    """A delivery found its pool full. decision: the name of what its strategy decided."""
    return PoolFull(
        pool=full.key, holder=delivery.attempt.holder, task_id=delivery.attempt.task_id, label=delivery.task_name,
        limit=full.limit, held=full.held, decision=decision,
        strategy="" if delivery.limit is None else delivery.limit.shown,
    )  # fmt: skip


def shown(delivery: Delivery) -> str:
    """A delivery as logs show it: the task's name and id."""
    return f"{delivery.task_name}[{delivery.attempt.task_id}]"
