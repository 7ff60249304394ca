"""The slots that this worker's tasks hold: who holds one, and how each is freed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .._core.commands import SlotRequest
from .._runtime.lease_renewer import LeaseRenewer, lease_renewer
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
    belongs to the thread that calls `free_dead`, which replaces it; the lease renewer's thread reads both.

    Args:
        release: frees a slot: sends its release, now or with other commands. (slot, requeue, died).
    """

    def __init__(
        self,
        runtime: Runtime,
        release: Callable[[Slot, bool, bool], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        renewer: LeaseRenewer = lease_renewer,
    ) -> None:
        self._runtime = runtime
        self._release = release
        self._clock = clock
        self._renewer: LeaseRenewer | None = renewer  # until it knows of us
        self._now = renewer.clock
        self._holding: dict[int, Delivery] = {}  # by their identity: a delivery need not be hashable
        self._dying: tuple[_Dying, ...] = ()

    def slots(self) -> list[Slot]:
        """The slots whose leases are to be renewed."""
        held = [delivery.state.slot for delivery in self.holding()]
        return [slot for slot in held if slot is not None] + [one.slot for one in self._dying]

    def holding(self) -> list[Delivery]:
        """The deliveries that hold a slot now."""
        return list(self._holding.values())

    def hold(self, delivery: Delivery, command: SlotRequest, token: int) -> None:
        """This delivery holds a slot: granted to it, or reserved for it."""
        now = self._now()
        delivery.state.slot = Slot(self._runtime.store, command, token, TOMB_MS, now, now, owner=0)
        self._holding[id(delivery)] = delivery
        if self._renewer is not None:
            self._renewer.add_source(self, command.lease_ms)
            self._renewer = None  # not before: where no thread can be started, the next slot tries again

    def free(self, delivery: Delivery, *, requeue: bool) -> None:
        """Free its slot, if it holds one. `requeue`: the attempt has not run, or its message comes again."""
        slot = self._take(delivery)
        if slot is not None:
            self._release(slot, requeue, delivery.state.died)

    def free_when_dead(self, delivery: Delivery, pid: int, *, requeue: bool) -> None:
        """Free its slot once this process is dead, or after two seconds: it is being killed for its hard time limit.

        Until then it may still be running the task. `free_dead` has to be called now and then.
        """
        slot = self._take(delivery)
        if slot is not None:
            self._dying = (*self._dying, _Dying(slot, pid, requeue, self._clock() + GRACE))

    def free_dead(self, *, wait: bool = True) -> bool:
        """Free the slots whose processes have died; `wait=False`: also of those that have not. Are there more?"""
        now = self._clock()
        ended = [one for one in self._dying if not (wait and is_alive(one.pid) and now < one.until)]
        self._dying = tuple(one for one in self._dying if one not in ended)
        for one in ended:
            self._release(one.slot, one.requeue, False)
        return bool(self._dying)

    def abandon(self, delivery: Delivery) -> Slot | None:
        """Stop renewing its slot without freeing it: the run may go on, and nobody will report its end."""
        return self._take(delivery)

    def granted_to(self, command: SlotRequest) -> Slot | None:
        """The slot that a delivery holds by this very command; None: none does any more."""
        deliveries = (delivery for delivery in self.holding() if delivery.state.command is command)
        return next((delivery.state.slot for delivery in deliveries), None)

    def _take(self, delivery: Delivery) -> Slot | None:
        self._holding.pop(id(delivery), None)
        slot = delivery.state.slot
        delivery.state.slot = None
        return slot


def slot_of(runtime: Runtime, command: SlotRequest, token: int) -> Slot:
    """The handle of a task's slot."""
    return Slot(runtime.store, command, token, TOMB_MS)


def is_alive(pid: int | None) -> bool:
    """Does this process run? One that has ended does not, though its parent has not asked for its exit code yet."""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return not file.read().rpartition(b")")[2].lstrip().startswith(b"Z")  # a zombie
    except OSError:  # no Linux
        return True
