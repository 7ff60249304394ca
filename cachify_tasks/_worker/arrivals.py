"""What a full pool would drop is dropped when it arrives: it need not wait for a process to learn that.

While all processes of a worker are busy, delivered messages wait in it for one. A task that `Drop` or `Raise` decides
about, perhaps after `Park(max_parked=…)`, would wait only to be refused, and others would pile up behind it. So the
worker looks into its pool at once. Messages of the pool that wait here before it count as held: they will be, at their
turn.
"""

from __future__ import annotations

import logging
from typing import Generic

from .._core.commands import Look
from .._core.decisions import FullPool, RaiseFull, Skip
from .._core.replies import Room
from .._runtime.runtime import Runtime
from .announcing import pool_full, shown
from .port import Delivery, M, WorkerPort
from .verdicts import AskAgain, Refuse, Revoke

logger = logging.getLogger("cachify_tasks")


class Arrivals(Generic[M]):
    """Refuses deliveries that wait for capacity.

    `waiting` has those that wait, with their pools, in the order of their arrival. One thread adds them. Any thread
    takes them out, when their turn comes or to refuse them: who has taken a delivery out decides about it.
    """

    def __init__(self, runtime: Runtime, port: WorkerPort[M]) -> None:
        self._runtime = runtime
        self._port = port
        self.waiting: dict[int, tuple[str, Delivery]] = {}  # by the id of the delivery

    def wait(self, delivery: Delivery, *, can_fail_unrun: bool) -> Look | None:
        """A delivery has arrived, and there is no capacity for it.

        Args:
            can_fail_unrun: nothing of the user's would see that the task fails, neither a retry nor a handler.

        Returns:
            Look: send it, and call `on_room` with the answer. None: it just waits.
        """
        limit = delivery.limit
        if limit is None or delivery.state.stored is not None or not (self.waiting or limit.refusal):
            return None
        try:
            look = Look(limit.key.resolve(*delivery.arguments()))
        except Exception:  # noqa: BLE001  # whatever formatting an argument raises fails the task at its turn
            return None
        delivery.state.refused = False
        self.waiting[id(delivery)] = look.pool, delivery
        asks = limit.refusal is not None and not delivery.is_copy
        return look if asks and (can_fail_unrun or not isinstance(limit.refusal, RaiseFull)) else None

    def on_turn(self, delivery: Delivery) -> bool:
        """There is capacity for this delivery now. Does it go on? False: it was refused."""
        return self.waiting.pop(id(delivery), None) is not None or not delivery.state.refused

    def forget(self) -> None:
        """None of them waits here any more; their messages will be delivered again."""
        self.waiting.clear()

    def on_room(self, delivery: Delivery, room: Room) -> None:
        """The store has answered: refuse the delivery if its pool is full and it still waits."""
        limit, waiting = delivery.limit, list(self.waiting.values())
        place = next((place for place, (_, other) in enumerate(waiting) if other is delivery), None)
        if place is None or limit is None or not self._port.accepting:
            return
        pool = waiting[place][0]
        held = room.held + sum(other == pool for other, _ in waiting[:place])
        size = limit.max_size if room.override is None else room.override
        may_park = 0 if limit.parking is None else limit.parking.max_parked
        if held < size or (may_park and room.waiting + held - size < may_park):
            return
        delivery.state.refused = True  # first: a thread that finds it gone from here must know why
        if self.waiting.pop(id(delivery), None) is None:
            delivery.state.refused = False
            return
        self._refuse(delivery, FullPool(pool, size, min(held, size), delivery.header.deferrals))

    def _refuse(self, delivery: Delivery, full: FullPool) -> None:
        decision = delivery.limit.refusal if delivery.limit else None
        self._runtime.emit(pool_full(full, delivery, type(decision).__name__))
        try:
            done = self._port.apply(delivery, Revoke(full) if isinstance(decision, Skip) else Refuse(full))
        except Exception:
            logger.exception("%s could not be refused; it asks for its slot later", shown(delivery))
            done = False
        if not done:
            self._port.apply(delivery, AskAgain())
