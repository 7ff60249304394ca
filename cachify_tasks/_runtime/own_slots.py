"""Does a call wait for a slot that its own caller holds? It would wait for ever, and say nothing.

Nothing here runs before a call has found its pool full.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from .._core.commands import SlotRequest
from .._core.decisions import FullPool
from .._core.replies import Reply
from .events import WaitsForItself
from .lease_renewer import lease_renewer
from .slot import Slot, caller, current

if TYPE_CHECKING:
    from .runtime import Runtime

WARN_AFTER_S: Final = 5.0


class OwnSlots:
    """Watches one call that waits.

    Args:
        endless: the call has no timeout.
    """

    def __init__(self, runtime: Runtime, request: SlotRequest, *, endless: bool) -> None:
        self._runtime = runtime
        self._request = request
        self._endless = endless
        self._warn_at = 0.0  # by `time.monotonic`; 0: the pool was not full yet

    def on_full(self, reply: Reply) -> float:
        """The pool is full, and the call is about to wait.

        Returns:
            float: seconds after which to call this again, at the latest.

        Raises:
            CachifyPoolFullError: the call would wait for ever: code around it holds all slots, in this thread or task,
                and frees none of them before the call returns.
        """
        around = self._around()
        stuck = sum(self._stays(slot) for slot in around)
        if self._endless and stuck >= reply.limit:
            raise FullPool(self._request.pool, reply.limit, reply.held).as_error(
                "the caller itself holds them until this call returns, so it would wait for ever: give the inner call "
                "a pool of its own, raise max_size, or wait with a timeout"
            )
        own = len({*around, *self._acquired_here()})
        if not own:
            return math.inf
        now = time.monotonic()
        self._warn_at = self._warn_at or now + WARN_AFTER_S
        if now < self._warn_at:
            return self._warn_at - now
        if self._warn_at < math.inf:
            self._warn_at = math.inf
            self._runtime.emit(
                WaitsForItself(pool=self._request.pool, label=self._request.label, limit=reply.limit, own=own)
            )
        return math.inf

    def _around(self) -> list[Slot]:
        """The slots of this pool that code around the call is in."""
        found: list[Slot] = []
        seen: set[Slot] = set()
        slot = current.get()
        while slot is not None and slot not in seen:
            seen.add(slot)
            if self._is_held(slot):
                found.append(slot)
            slot = slot.outer
        return found

    def _acquired_here(self) -> list[Slot]:
        """Those that this thread or task has acquired, and that others may free: by hand, or of a generator."""
        me = caller()
        return [slot for slot in lease_renewer.acquired() if slot.owner == me and self._is_held(slot)]

    def _is_held(self, slot: Slot) -> bool:
        return slot.key == self._request.pool and slot.store is self._runtime.store and not slot.lost

    def _stays(self, slot: Slot) -> bool:
        """Is it held at least until this call returns? A parent task or process may go on, and free its own earlier."""
        return slot.owner == caller() and not slot.inherited and not slot.request.slot_exp_ms
