"""The slots that this worker's tasks hold: who holds one, and how each is freed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .._core.commands import SlotRequest
from .._runtime.lease_renewer import lease_renewer
from .._runtime.runtime import Runtime
from .._runtime.slot import Slot
from .port import Delivery

TOMB_MS: Final = 300_000  # for so long a late copy of an attempt that has ended is recognised and discarded
GRACE: Final = 2.0  # seconds that a process over its hard time limit may take to die
LOOK: Final = 0.02  # seconds between two looks whether it has


@dataclass(frozen=True, slots=True)
class _Dying:
    """A slot that is freed when its process is dead."""

    slot: Slot
    pid: int
    requeue: bool
    until: float


class HeldSlots:
    """Takes and frees slots for deliveries, and has their leases renewed while they are held.

    `_holding` may be used by every thread that starts or ends tasks: single operations on a dict are atomic. `_dying`
    belongs to the thread that calls `free_dead`.

    Args:
        release: frees a slot: sends its release, now or with other commands. (slot, requeue).
    """

    def __init__(
        self, runtime: Runtime, release: Callable[[Slot, bool], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._runtime = runtime
        self._release = release
        self._clock = clock
        self._holding: dict[int, Delivery] = {}  # by their identity: a delivery need not be hashable
        self._dying: list[_Dying] = []

    def holding(self) -> list[Delivery]:
        """The deliveries that hold a slot now."""
        return list(self._holding.values())

    def hold(self, delivery: Delivery, command: SlotRequest, token: int) -> Slot:
        """The store has granted a slot to this delivery."""
        slot = slot_of(self._runtime, command, token)
        delivery.state.slot = slot
        self._holding[id(delivery)] = delivery
        lease_renewer.add(slot)
        return slot

    def free(self, delivery: Delivery, *, requeue: bool) -> None:
        """Free its slot, if it holds one. `requeue`: the attempt has not run, or its message comes again."""
        slot = self._take(delivery)
        if slot is not None:
            self._free(slot, requeue)

    def free_when_dead(self, delivery: Delivery, pid: int, *, requeue: bool) -> None:
        """Free its slot once this process is dead, or after two seconds: it is being killed for its hard time limit.

        Until then it may still be running the task. `free_dead` has to be called now and then.
        """
        slot = self._take(delivery)
        if slot is not None:
            self._dying.append(_Dying(slot, pid, requeue, self._clock() + GRACE))

    def free_dead(self, *, wait: bool = True) -> bool:
        """Free the slots whose processes have died; `wait=False`: also of those that have not. Are there more?"""
        dying, self._dying = self._dying, []
        for one in dying:
            if wait and is_alive(one.pid) and self._clock() < one.until:
                self._dying.append(one)
            else:
                self._free(one.slot, one.requeue)
        return bool(self._dying)

    def abandon(self, delivery: Delivery) -> Slot | None:
        """Stop renewing its slot without freeing it: the run may go on, and nobody will report its end."""
        slot = self._take(delivery)
        if slot is not None:
            lease_renewer.remove(slot)
        return slot

    def lost(self, command: SlotRequest) -> Slot | None:
        """An heir started, and its report came too late: its slot is somebody else's. Stop renewing it."""
        for delivery in self.holding():
            slot = delivery.state.slot
            if delivery.state.command is command and slot is not None:
                lease_renewer.remove(slot)
                return slot
        return None

    def _take(self, delivery: Delivery) -> Slot | None:
        self._holding.pop(id(delivery), None)
        slot = delivery.state.slot
        delivery.state.slot = None
        return slot

    def _free(self, slot: Slot, requeue: bool) -> None:
        lease_renewer.remove(slot)
        self._release(slot, requeue)


def slot_of(runtime: Runtime, command: SlotRequest, token: int) -> Slot:
    """The handle of a task's slot."""
    return Slot(runtime.store, command, token, tomb_ms=TOMB_MS)


def is_alive(pid: int | None) -> bool:
    """Does this process run?"""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
