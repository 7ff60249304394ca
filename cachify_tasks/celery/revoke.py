"""`app.control.revoke(id)` reaches tasks that are parked: no worker has their message, so one looks in the store."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from .._core.commands import Claim, Find, Found, Heir, Ticketed
from .._worker.port import HandOver
from ..errors import CachifyStoreError

if TYPE_CHECKING:
    from .gate import Gate
    from .internals import Consumer

logger = get_logger("cachify_tasks.celery")

CLAIM_MS = 10_000  # all workers hear of it; one acts
TOGETHER = 200  # ids that are looked for in one script


def listen(consumer: Consumer, gate: Gate) -> None:
    """Have this worker's `revoke` command look for parked tasks too, after Celery's own has run."""
    box = next((step.box for step in consumer.blueprint.order if hasattr(step, "box")), None)
    if box is None:  # this worker takes no commands
        return
    node = box.node
    own = node.handlers["revoke"]
    if getattr(own, "__wrapped__", None) is not None:
        return

    @functools.wraps(own)
    def revoke(state: object, task_id: str | Iterable[str] | None, **options: object) -> object:
        answer = own(state, task_id, **options)
        try:
            end_parked(gate, [task_id] if isinstance(task_id, str) else task_id or ())
        except Exception as error:  # noqa: BLE001  # at its turn a revoked task is found out all the same
            logger.error("parked tasks could not be looked for: %r", error)
        return answer

    node.handlers = {**node.handlers, "revoke": revoke}


def end_parked(gate: Gate, ids: Iterable[str]) -> None:
    """End those of these tasks that are parked, as revoked."""
    store, left = gate.runtime.store, tuple(ids)
    pools = store.execute(Ticketed())
    while left and pools:  # the worker's loop waits for this: one script a pool, and not one for each task too
        some, left = left[:TOGETHER], left[TOGETHER:]
        for pool, found in zip(pools, store.execute_many([Find(pool, some) for pool in pools]), strict=True):
            if isinstance(found, CachifyStoreError):
                raise found
            for ticket in found:
                if ticket.waits:
                    _end(gate, pool, ticket)


def _end(gate: Gate, pool: str, found: Found) -> None:
    envelope = gate.open(found.envelope)
    if envelope.task not in gate.worker.app.tasks:  # it is left to a worker that knows it
        return
    if not gate.runtime.store.execute(Claim(f"revoke:{found.holder}", CLAIM_MS)):
        return
    heir = Heir(holder=found.holder, token=0, envelope=found.envelope, waited_ms=0)
    gate.deliver(
        HandOver(pool=pool, heir=heir, message=envelope)
    )  # ends it if it is revoked, and takes it out of the store
