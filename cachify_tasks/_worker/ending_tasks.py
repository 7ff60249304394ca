"""Parked tasks that end without a run: revoked, or never to be started by any worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .._core.commands import Claim, Find, Ticketed, Withdraw
from .._core.replies import Found, Heir
from .._runtime.events import TaskEnded
from .._runtime.runtime import Runtime
from ..errors import CachifyStoreError
from .attempt import task_id_of
from .endings import Ending, Revoked
from .held_slots import TOMB_MS
from .port import HandOver, M, Refusal, WorkerPort

CLAIM_MS: Final = 10_000  # all workers are told of a revoked task; one acts
TOGETHER: Final = 200  # ids that are looked for in one script


def end_unrun(
    runtime: Runtime, port: WorkerPort[M], pool: str, holder: str, message: M | None, why: Ending
) -> None:  # fmt: skip
    """End a parked task: first where its sender can see it, then in the store.

    Raises:
        Exception: its end could not be recorded. The store still has it, and it is tried again at its next turn.
    """
    task_id = task_id_of(holder)
    port.end(task_id, message, why)
    runtime.emit(TaskEnded(pool=pool, holder=holder, task_id=task_id, why=str(why)))
    port.send(
        Withdraw(
            pool=pool, holder=holder, start_ms=runtime.start_ms, tomb_ms=TOMB_MS, can_start_heirs=port.accepting
        ),
        at_once=False,
    )  # fmt: skip


def end_revoked(runtime: Runtime, port: WorkerPort[M], ids: Iterable[str]) -> None:
    """End those of these tasks that are parked; the framework has recorded them as revoked.

    No worker has their messages, so one looks in the store. The worker's loop waits for this, so it sends one script
    for each pool and 200 ids, not one for each task.

    Raises:
        CachifyStoreError: the store is out of reach. A revoked task is still found out at its turn.
        Exception: an envelope cannot be read.
    """
    store, left = runtime.store, tuple(ids)
    pools = store.execute(Ticketed())
    while left and pools:
        some, left = left[:TOGETHER], left[TOGETHER:]
        for pool, found in zip(pools, store.execute_many([Find(pool, some) for pool in pools]), strict=True):
            if isinstance(found, CachifyStoreError):
                raise found
            for ticket in found:
                if ticket.waits and ticket.kind in ("", port.kind):
                    _end_revoked(runtime, port, pool, ticket)


def _end_revoked(runtime: Runtime, port: WorkerPort[M], pool: str, found: Found) -> None:
    message = port.open(found.envelope)
    known = port.knows(message)
    if not known and port.can_run(message, 0) is not Refusal.UNKNOWN:  # left to a worker of its queue
        return
    if not runtime.store.execute(Claim(f"revoke:{found.holder}", CLAIM_MS)):
        return
    if not known:
        end_unrun(runtime, port, pool, found.holder, message, Revoked())
        return
    heir = Heir(holder=found.holder, token=0, envelope=found.envelope, waited_ms=0)
    port.deliver(HandOver(pool=pool, heir=heir, message=message))  # which ends it, and takes it out of the store
