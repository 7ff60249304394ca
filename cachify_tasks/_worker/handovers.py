"""Parked tasks whose turn has come: started in this worker, without a way through the broker, or hinted at."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final, Generic, assert_never

from .._core.commands import PutBack
from .._core.replies import Heir
from .._runtime.events import HandedOver, TaskPutAside
from .._runtime.runtime import Runtime
from .attempt import Hint
from .ending_tasks import end_unrun
from .endings import Ending, Unreadable, UnreadableError
from .held_slots import TOMB_MS
from .port import Delivery, HandOver, M, Stored, WorkerPort
from .turns import SHORTEST, End, PutAside, SendHint, StartHere, turn, unknown_here

logger = logging.getLogger("cachify_tasks")

HINTS: Final = 3  # of one task by one worker, before they become rare
HINT_PAUSE: Final = 30.0  # seconds between rare hints; it doubles, up to twenty times as much
REMEMBERED: Final = 10_000  # tasks
PATIENCE: Final = 0.05  # seconds that a slot is kept for an heir that waits here for capacity, the first time
DOUBLINGS: Final = 3  # each further time twice as long, at most so many times: where no other worker has capacity


class HintThrottle:
    """Says whether a hint at a parked task is worth sending.

    If no worker consumes a task's queue, the store offers the task again and again. Three hints are enough for a
    consumer that comes later; after that one is sent rarely, in case a hint got lost.

    Owned by the thread that starts heirs.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sent: dict[str, tuple[int, float]] = {}  # holder -> hints sent, and when the next one is due

    def allows(self, holder: str) -> bool:
        """May a hint be sent at this holder's task now? If so, it counts as sent."""
        count, due = self._sent.pop(holder, (0, 0.0))
        now = self._clock()
        if now < due:
            self._sent[holder] = count, due
            return False
        pause = 0.0
        if count + 1 >= HINTS:
            doublings = min(count + 1 - HINTS, 10)  # a task may wait for years: the power must stay a float
            pause = min(HINT_PAUSE * 2.0**doublings, HINT_PAUSE * 20)
        self._sent[holder] = count + 1, now + pause
        if len(self._sent) > REMEMBERED:
            del self._sent[next(iter(self._sent))]
        return True


class HandOvers(Generic[M]):
    """Starts the heirs that the store names to this worker.

    `_waiting` has the heirs' deliveries that wait here for capacity, by holder. Threads of the worker's pool take
    deliveries out when their turn comes; all else is done by the thread that starts heirs.
    """

    def __init__(self, runtime: Runtime, port: WorkerPort[M], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._port = port
        self._throttle = HintThrottle(clock=clock)
        self._waiting: dict[str, Delivery] = {}

    def __len__(self) -> int:
        """How many heirs wait here for capacity."""
        return len(self._waiting)

    def waiting(self) -> list[Delivery]:
        return list(self._waiting.values())

    def start(self, pool: str, heirs: Iterable[Heir], *, starter: str = "", sure_until: float = 0.0) -> None:
        """Start heirs here or hint at them. The store offers one again that nobody starts in time.

        Args:
            starter: who alone may start them; empty: anybody.
            sure_until: until then (by the worker's clock) the reservations cannot have ended; 0.0: unknown.
        """
        for heir in heirs:
            try:
                self._start(pool, heir, starter, sure_until)
            except Exception as error:  # noqa: BLE001  # its reservation ends, and another worker may do better
                logger.error("the parked task %s of pool %r could not be started: %r", heir.holder, pool, error)

    def _start(self, pool: str, heir: Heir, starter: str, sure_until: float) -> None:
        waiting = self._waiting.get(heir.holder)
        if waiting is not None:  # its reservation had ended; when its turn comes it takes the new one
            stored = waiting.state.stored
            assert stored is not None
            stored.token = heir.token
            stored.starter = starter
            stored.sure_until = sure_until
            self._share_later(pool, heir)
            return
        if heir.kind and heir.kind != self._port.kind:
            self.put_aside(pool, heir.holder, heir.token, PutAside(SHORTEST, "it is another framework's"))
            return
        try:
            message = self._port.open(heir.envelope)
        except Exception as error:  # noqa: BLE001  # whatever reading it raises
            self._end(pool, heir, None, Unreadable(error))
            return
        settings = self._runtime.settings
        decided = turn(
            heir, self._port.can_run(message, len(self._waiting)),
            grace_s=settings.grace_s, max_deaths=settings.max_deaths,
        )  # fmt: skip
        handover = HandOver(pool=pool, heir=heir, message=message, starter=starter, sure_until=sure_until)
        match decided:
            case StartHere():
                self._start_here(handover)
            case SendHint():
                if self._throttle.allows(heir.holder):
                    self._port.hint(handover)
                    self._announce(handover, "hint")
            case PutAside():
                self.put_aside(pool, heir.holder, heir.token, decided)
            case End(why):
                self._end(pool, heir, message, why)
            case _:
                assert_never(decided)

    def _start_here(self, handover: HandOver[M]) -> None:
        heir = handover.heir
        self._announce(handover, "here")
        try:
            delivery = self._port.deliver(handover)
        except UnreadableError as error:
            self._end(handover.pool, heir, handover.message, Unreadable(error))
            return
        if delivery is not None:
            self._waiting[heir.holder] = delivery  # first: it may begin while `run` starts it
            self._port.run(delivery)
            self._share_later(handover.pool, heir)

    def _share_later(self, pool: str, heir: Heir) -> None:
        """Another worker may have capacity before this one does.

        If the heir still waits then, its slot is not kept for it any longer: a worker with capacity is reserved one for
        it, in its place in the queue. Whoever has capacity first starts it: when its turn comes here, it asks.
        """
        stored = self._stored(heir.holder)
        if stored is None:  # it has begun
            return

        def share() -> None:
            stored = self._stored(heir.holder)
            if stored is not None and stored.token == heir.token:
                stored.sure_until = 0.0  # first: it may not begin here without asking any more
                stored.shared += 1
                self._put_back(pool, heir.holder, heir.token, can_start_heirs=False)

        self._port.call_later(PATIENCE * 2 ** min(stored.shared, DOUBLINGS), share)

    def _stored(self, holder: str) -> Stored | None:
        waiting = self._waiting.get(holder)
        return None if waiting is None else waiting.state.stored

    def _announce(self, handover: HandOver[M], where: str) -> None:
        heir = handover.heir
        self._runtime.emit(HandedOver(pool=handover.pool, holder=heir.holder, waited_ms=heir.waited_ms, where=where))

    def on_unknown_hint(self, hint: Hint, holder: str) -> None:
        """A hint has come at a task that this worker does not know."""
        self.put_aside(hint.pool, holder, hint.token, unknown_here(0.0))

    def put_aside(self, pool: str, holder: str, token: int, turn: PutAside) -> None:
        self._runtime.emit(TaskPutAside(pool=pool, holder=holder, why=turn.why, seconds=turn.seconds))
        self._put_back(
            pool, holder, token, pause_ms=round(turn.seconds * 1000), unknown=turn.unknown,
            can_start_heirs=self._port.accepting,
        )  # fmt: skip

    def _put_back(
        self, pool: str, holder: str, token: int, *, can_start_heirs: bool, pause_ms: int = 0, unknown: bool = False
    ) -> None:
        self._port.send(
            PutBack(
                pool=pool, holder=holder, token=token, start_ms=self._runtime.start_ms, tomb_ms=TOMB_MS,
                pause_ms=pause_ms, unknown=unknown, can_start_heirs=can_start_heirs,
            ),
            at_once=False,
        )  # fmt: skip

    def _end(self, pool: str, heir: Heir, message: M | None, why: Ending) -> None:
        end_unrun(self._runtime, self._port, pool, heir.holder, message, why)

    def on_turn(self, delivery: Delivery) -> None:
        """There is capacity for this delivery now: it waits no more."""
        holder = delivery.attempt.holder
        if self._waiting.get(holder) is delivery:  # not a hint at it, which may come to the same worker
            self._waiting.pop(holder, None)

    def wait_again(self, deliveries: Iterable[Delivery]) -> None:
        """These were dispatched but never sent to the store: they wait for capacity again."""
        for delivery in deliveries:
            if delivery.state.stored is not None:
                self._waiting[delivery.attempt.holder] = delivery

    def pass_on(self, give_back: Callable[[Delivery], bool]) -> None:
        """The worker is shutting down: give heirs that have not started back to the queue, for another worker's reaper.

        No hints are sent: this worker may still be asking the broker for messages, and would lose them. While the store
        is out of reach the reservations end by themselves: a shutdown does not wait for each.

        Args:
            give_back: ends a reservation. Does the store answer?
        """
        answers = True
        for holder, delivery in list(self._waiting.items()):
            delivery.state.passed_on = True  # first: a thread of the pool may just begin it
            if self._waiting.pop(holder, None) is not None and answers:
                answers = give_back(delivery)
