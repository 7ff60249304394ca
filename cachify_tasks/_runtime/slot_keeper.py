"""What the flows need of their surroundings: handles of slots, the lease renewer, and events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from .._core.commands import Release, SlotRequest
from .._core.replies import Reply
from ..errors import CachifyStoreError
from . import events
from .events import LeaseWasLost, LimitsDiffer, SlotGranted, SlotReleased, StoreUnreachable
from .lease_renewer import lease_renewer
from .slot import Slot

if TYPE_CHECKING:
    from .runtime import Runtime

FUNCTION_TOMB_MS: Final = 5_000  # a direct call's release is remembered while a client may still send it again


class SlotKeeper:
    """The `Keeper` of the flows of one runtime. It has no state of its own; any thread may use it."""

    __slots__ = ("_runtime",)

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def on_reply(self, request: SlotRequest, reply: Reply) -> Slot | None:
        runtime = self._runtime
        if reply.previous_limit:
            runtime.emit(
                LimitsDiffer(
                    pool=request.pool, previous_limit=reply.previous_limit, limit=request.limit, counts=reply.limit,
                    label=request.label,
                )
            )  # fmt: skip
        if reply.status != "granted":
            return None
        slot = Slot(runtime.store, request, reply.token, FUNCTION_TOMB_MS)
        lease_renewer.add(slot)
        if events.listeners:
            runtime.emit(
                SlotGranted(
                    pool=request.pool, holder=request.holder, token=reply.token, limit=reply.limit, held=reply.held,
                    label=request.label,
                )
            )  # fmt: skip
        return slot

    def stop_renewing(self, slot: Slot) -> Release | None:
        lease_renewer.remove(slot)
        slot.outer = None  # tasks that start tasks in their slots make no chain of slots that are freed
        return None if slot.inherited else slot.release_command()

    def on_released(self, slot: Slot, reply: Reply) -> None:
        if reply.status == "lost":
            self.on_lost(slot)
        elif events.listeners:
            self._runtime.emit(
                SlotReleased(
                    pool=slot.key, holder=slot.holder, token=slot.token, label=slot.label,
                    held_s=time.monotonic() - slot.acquired_at,
                )
            )  # fmt: skip

    def on_lost(self, slot: Slot) -> None:
        """Its lease was lost before its run ended, as the store says; said once a slot."""
        if not slot.lost:
            slot.mark_lost()
            self._runtime.emit(
                LeaseWasLost(pool=slot.key, holder=slot.holder, token=slot.token, when="before its run ended")
            )

    def on_outage(self, error: CachifyStoreError, doing: str) -> None:
        self._runtime.emit(StoreUnreachable(doing=doing, error=error))
