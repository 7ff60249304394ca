"""How direct calls acquire a slot: with waiting in the queue, and with what `on_store_error` says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .._core.commands import Acquire, SlotRequest
from .._core.decisions import FullPool, Waiting
from .._core.flows import Flow, Handle, acquire, patient, take
from .._core.replies import Reply
from .._core.wait_flow import FOREVER, wait_in_queue
from ..errors import CachifyPoolFullError, CachifyStoreError
from . import events
from .events import PoolFull, StoreUnreachable
from .own_slots import OwnSlots
from .slot import Slot

if TYPE_CHECKING:
    from .runtime import Runtime


def acquiring(runtime: Runtime, request: Acquire, waiting: Waiting | None = None) -> Flow[Slot | Reply | None]:
    """A flow that returns a slot; the `Reply` of a full pool; or None: the store is out of reach, go on without a slot.

    Only what the settings and the strategy ask for is wrapped around the bare `acquire`.

    Args:
        waiting: how to wait in the pool's queue. A call that has waited in vain gets the reply of a full pool.
    """
    choice = runtime.settings.on_store_error
    if waiting is not None and waiting.timeout_ms != 0:
        flow = _waiting(runtime, request, waiting)
    elif waiting is None and choice == "retry":
        flow = _persistent(runtime, request, FOREVER)
    else:
        flow = _once(runtime, request)
    return _or_without(runtime, request, flow) if choice == "run" else flow


def _once(runtime: Runtime, request: SlotRequest) -> Flow[Slot | Reply]:
    return acquire(runtime.keeper, request)


def _waiting(runtime: Runtime, request: Acquire, waiting: Waiting) -> Flow[Slot | Reply]:
    until = FOREVER if waiting.timeout_ms is None else time.monotonic() + waiting.timeout_ms / 1000

    def ask(command: SlotRequest) -> Flow[Slot | Reply]:
        if runtime.settings.on_store_error == "retry":
            return _persistent(runtime, command, until)
        return _once(runtime, command)

    own = OwnSlots(runtime, request, endless=waiting.timeout_ms is None)
    return wait_in_queue(runtime.store.wakeups, request, ask, until, own.on_full)


def _persistent(runtime: Runtime, request: SlotRequest, until: float) -> Flow[Slot | Reply]:
    """Ask again while the store is out of reach, until then."""

    def again(error: CachifyStoreError) -> bool:
        in_time = time.monotonic() < until
        if in_time:
            doing = f"acquiring a slot of {request.pool!r}, trying again"
            runtime.emit(StoreUnreachable(doing=doing, error=error))
        return in_time

    return patient(lambda: _once(runtime, request), again)


def _or_without(runtime: Runtime, request: Acquire, flow: Flow[Slot | Reply]) -> Flow[Slot | Reply | None]:
    """Go on without a slot where the store is out of reach."""
    try:
        return (yield from flow)
    except CachifyStoreError as error:
        doing = f"acquiring a slot of {request.pool!r}, running without one"
        runtime.emit(StoreUnreachable(doing=doing, error=error))
        return None


def taking(runtime: Runtime, request: Acquire, waiting: Waiting | None, handle: Handle[Slot]) -> Flow[Slot | None]:
    """Acquire a slot and leave it with the handle, or raise `CachifyPoolFullError`."""

    def full(reply: Reply) -> CachifyPoolFullError:
        if events.listeners:
            runtime.emit(
                PoolFull(
                    pool=request.pool, holder=request.holder, label=request.label, limit=reply.limit, held=reply.held,
                    decision="RaiseFull",
                )
            )  # fmt: skip
        hint = waiting.describe() if waiting else "wait, raise max_size, or give @pooled an on_full"
        return FullPool(request.pool, reply.limit, reply.held).as_error(hint)

    return take(runtime.keeper, acquiring(runtime, request, waiting), handle, full)
