"""Parked tasks that end without a run: revoked, or never to be started by any worker."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from .._core.commands import Find, Withdraw
from .._core.key_commands import Claim, Locate
from .._core.replies import Found, Heir
from .._runtime.events import TaskEnded
from .._runtime.runtime import Runtime
from ..errors import CachifyStoreError
from .attempt import task_id_of
from .endings import Ending, Revoked
from .held_slots import TOMB_MS
from .outage import FIRST
from .port import HandOver, M, Refusal, WorkerPort

logger = logging.getLogger("cachify_tasks")

LONGEST: Final = 30.0  # seconds between two tries
CLAIM_MS: Final = 30_000  # all workers get a revoke; one acts
TOGETHER: Final = 50  # tasks that are looked for, and ended, in one step
TRIES: Final = 20  # while the store is out of reach: about nine minutes


def end_unrun(
    runtime: Runtime, port: WorkerPort[M], pool: str, holder: str, message: M | None, why: Ending
) -> None:  # fmt: skip
    """End a parked task: first where its sender can see it, then in the store.

    Raises:
        Exception: its end could not be recorded. The store still has it, and it is tried again at its next turn.
    """
    task_id = task_id_of(holder)

    def recorded() -> None:
        runtime.emit(TaskEnded(pool=pool, holder=holder, task_id=task_id, why=str(why)))
        port.send(
            Withdraw(
                pool=pool, holder=holder, start_ms=runtime.start_ms, tomb_ms=TOMB_MS, can_start_heirs=port.accepting
            ),
            at_once=False,
        )  # fmt: skip

    port.end(task_id, message, why, recorded)


def end_revoked(runtime: Runtime, port: WorkerPort[M], ids: Iterable[str], *, tries: int = 0) -> None:
    """End those of these tasks that are parked; the framework has recorded them as revoked.

    No worker has their messages, so an index of the store says in which pools they are. Each worker looks there, and
    one of them ends a task. The worker's loop waits for this, so it goes in steps of a few tasks. While the store is
    out of reach it is tried again; in the end a revoked task is found out at its turn.

    Args:
        tries: how often it was tried before.
    """
    left = tuple(ids)
    some, rest = left[:TOGETHER], left[TOGETHER:]
    try:
        tickets = _find(runtime, some)
    except CachifyStoreError as error:
        if tries < TRIES:
            pause = min(FIRST * 2.0**tries, LONGEST)
            logger.warning("%d revoked tasks are looked for again in %g s: %s", len(left), pause, error)
            port.call_later(pause, lambda: end_revoked(runtime, port, left, tries=tries + 1))
        else:
            logger.error("%d revoked tasks could not be looked for: %s", len(left), error)
        return
    for pool, ticket in tickets:
        try:
            _end_revoked(runtime, port, pool, ticket)
        except Exception as error:  # noqa: BLE001  # it cannot be read or recorded now; there is its turn, too
            logger.error("the revoked task %s of pool %r could not be ended: %r", ticket.holder, pool, error)
    if rest:
        port.call_later(0.0, lambda: end_revoked(runtime, port, rest))


def _find(runtime: Runtime, ids: Iterable[str]) -> list[tuple[str, Found]]:
    """The tickets of these tasks, with their pools.

    Raises:
        CachifyStoreError: the store is out of reach.
    """
    by_pool: dict[str, list[str]] = {}
    for task, pool in runtime.store.execute(Locate(tuple(ids))).items():
        by_pool.setdefault(pool, []).append(task)
    commands = [Find(pool, tuple(tasks)) for pool, tasks in by_pool.items()]
    found: list[tuple[str, Found]] = []
    for pool, tickets in zip(by_pool, runtime.store.execute_many(commands) if commands else [], strict=True):
        if isinstance(tickets, CachifyStoreError):
            raise tickets
        found += [(pool, ticket) for ticket in tickets]
    return found


def claim_revoked(runtime: Runtime, holder: str) -> bool:
    """May this worker end the revoked task, and tell of it? For a while no other one may, then it may have died.

    Raises:
        CachifyStoreError: the store is out of reach.
    """
    return runtime.store.execute(Claim(f"revoke:{holder}", CLAIM_MS))


def _end_revoked(runtime: Runtime, port: WorkerPort[M], pool: str, found: Found) -> None:
    if not found.waits or found.kind not in ("", port.kind):
        return
    message = port.open(found.envelope)
    known = port.knows(message)
    if not known and port.can_run(message, 0) is not Refusal.UNKNOWN:  # left to a worker of its queue
        return
    if not claim_revoked(runtime, found.holder):
        return
    if not known:
        end_unrun(runtime, port, pool, found.holder, message, Revoked())
        return
    heir = Heir(holder=found.holder, token=0, envelope=found.envelope, waited_ms=0)
    port.deliver(HandOver(pool=pool, heir=heir, message=message))  # which ends it, and takes it out of the store
