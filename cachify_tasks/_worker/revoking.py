"""A task that was revoked while it is parked ends at once: no worker has its message, so one looks in the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .._core.commands import Claim, Find, Found, Heir, Ticketed
from .._runtime.runtime import Runtime
from ..errors import CachifyStoreError
from .port import HandOver, M, WorkerPort

CLAIM_MS: Final = 10_000  # all workers are told of a revoked task; one acts
TOGETHER: Final = 200  # ids that are looked for in one script


def end_parked(runtime: Runtime, port: WorkerPort[M], ids: Iterable[str]) -> None:
    """End those of these tasks that are parked; the framework has recorded them as revoked.

    The worker's loop waits for this, so it sends one script for each pool and 200 ids, not one for each task.

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
                    _end(runtime, port, pool, ticket)


def _end(runtime: Runtime, port: WorkerPort[M], pool: str, found: Found) -> None:
    message = port.open(found.envelope)
    if not port.knows(message) or not runtime.store.execute(Claim(f"revoke:{found.holder}", CLAIM_MS)):
        return
    heir = Heir(holder=found.holder, token=0, envelope=found.envelope, waited_ms=0)
    port.deliver(HandOver(pool=pool, heir=heir, message=message))  # which ends it, and takes it out of the store
