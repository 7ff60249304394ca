"""`Worker`: what becomes of each delivery of a worker, from its arrival to the end of its run.

    request(delivery)    the command by which it asks for a slot
    on_reply(...)        the verdict on it, and the slot if there is one; the adapter acts (`WorkerPort.apply`)
    on_run_end(...)      the run has ended: free the slot; the store names an heir
    on_report_reply(...) a command such as the release was answered: start the heir here, or hint at it

An adapter calls these; how commands reach the store is its choice. `ask_now` and `send_now` block; an adapter with an
event loop batches the commands of one iteration instead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Generic

from .._core.commands import PutBack, Release, Renew, Withdraw, resent
from .._core.replies import Heir, Reply
from .._runtime import events
from .._runtime.events import LimitsDiffer, SlotGranted, SlotReleased, StoreUnreachable
from .._runtime.runtime import Runtime
from .._runtime.slot import Slot
from ..errors import CachifyStoreError
from .announcing import event_of, shown
from .arrivals import Arrivals
from .handovers import HandOvers
from .held_slots import TOMB_MS, HeldSlots
from .outage import StoreOutage
from .outbox import Outbox, Report
from .port import Delivery, M, TaskRequest, WorkerPort
from .requests import acquire, start_reserved
from .verdicts import (
    AskAgain,
    Fail,
    Leave,
    SendLater,
    Start,
    StartWith,
    StartWithoutSlot,
    Verdict,
    verdict,
)

logger = logging.getLogger("cachify_tasks")

SURE: Final = 0.5  # of a reservation's life, counted from the sending of its release: a margin for unlike clocks


class Worker(Generic[M]):
    """The state of one worker: slots held, heirs waiting here, commands that the store has not confirmed.

    Each part says in its docstring which thread owns it. `Worker` itself keeps nothing else, but whether there is news
    for the reaper: any thread sets it.
    """

    def __init__(self, runtime: Runtime, port: WorkerPort[M], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.runtime = runtime
        self.port = port
        self.clock = clock
        self.outage = StoreOutage(clock=clock)
        self.outbox = Outbox(runtime.lease_ms / 1000, clock=clock)
        self.slots = HeldSlots(runtime, self._release, clock=clock)
        self.handovers = HandOvers(runtime, port, clock=clock)
        self.arrivals = Arrivals(runtime, port)
        self._news = False  # see `take_news`

    # Arrival

    def on_turn(self, delivery: Delivery) -> bool:
        """There is capacity for this delivery now: it waits no more. Does it go on? False: it was refused."""
        if delivery.state.stored is not None:
            self.handovers.on_turn(delivery)
        return self.arrivals.on_turn(delivery) if self.arrivals.waiting else not delivery.state.refused

    def request(self, delivery: Delivery) -> TaskRequest | Fail | None:
        """The command by which this delivery asks for a slot. It is made once, and names one arrival.

        Returns:
            None: its task has no limit, and it was not parked: run it. Fail: its arguments do not make a key: apply it.
        """
        state, limit = delivery.state, delivery.limit
        self.on_turn(delivery)
        if state.command is None:
            try:
                if state.stored is not None:
                    state.command = start_reserved(self.runtime, limit, delivery, state.stored)
                elif limit is not None:
                    state.command = acquire(self.runtime, limit, delivery, self.port.kind)
            except Exception as error:  # noqa: BLE001  # whatever formatting an argument raises fails this task alone
                return Fail("key", str(error))
        return state.command

    def ask_now(self, delivery: Delivery) -> None:
        """Ask the store for this delivery, wait for the answer, and act on it."""
        if not self.on_turn(delivery):
            return
        command = self.request(delivery)
        if delivery.state.passed_on:
            self.port.apply(delivery, Leave())
            return
        if command is None or isinstance(command, Fail):
            self.port.apply(delivery, command or Start(0))
            return
        reply: Reply | CachifyStoreError = CachifyStoreError("the store is out of reach")
        if self.outage.may_ask():
            try:
                reply = self.runtime.store.execute(command)
            except CachifyStoreError as error:
                self.outage.begin()
                reply = error
        self.on_reply(delivery, command, reply)

    def on_reply(self, delivery: Delivery, command: TaskRequest, reply: Reply | CachifyStoreError) -> None:
        """Act on the store's answer, or on that there is none.

        Nothing is raised: an error here must cost neither the worker nor another delivery.
        """
        try:
            self._on_reply(delivery, command, reply)
        except Exception:
            logger.exception("%s could not be handled; trying again", shown(delivery))
            self._try_again(delivery)

    def _try_again(self, delivery: Delivery) -> None:
        try:
            self.slots.free(delivery, requeue=True)
            self.ask_again(delivery)
        except Exception:  # its message is not acknowledged: the broker or the store will deliver it again
            logger.exception("%s could not be tried again", shown(delivery))

    def _on_reply(self, delivery: Delivery, command: TaskRequest, reply: Reply | CachifyStoreError) -> None:
        if isinstance(reply, CachifyStoreError):
            self.runtime.emit(StoreUnreachable(doing="asking for slots", error=reply))
        else:
            self._on_answer(delivery, command, reply)
        stored = delivery.state.stored
        decided = verdict(
            command, reply, limit=delivery.limit, on_store_error=self.runtime.settings.on_store_error,
            deferrals=delivery.header.deferrals, waited_ms=stored.waited_ms if stored else 0,
        )  # fmt: skip
        if isinstance(reply, Reply):
            self._news = self._news or reply.status == "parked"
            if not isinstance(decided, Start):
                self._announce(delivery, command, reply, decided)
            if reply.status == "granted":
                self._hold(delivery, command, reply)
                if stored is not None and self.port.is_revoked(delivery):
                    self.slots.free(delivery, requeue=False)
                    return
        self._apply(delivery, decided)

    def _on_answer(self, delivery: Delivery, command: TaskRequest, reply: Reply) -> None:
        if self.outage.failing:
            self.outage.on_answer()
        if reply.previous_limit:
            self.runtime.emit(
                LimitsDiffer(
                    pool=command.pool, previous_limit=reply.previous_limit, limit=command.limit, counts=reply.limit,
                    label=command.label,
                )
            )  # fmt: skip
        if reply.heirs:
            self.start_heirs(command.pool, reply.heirs)
        stored = delivery.state.stored
        if stored is not None and stored.hinted:  # a hint has done its work once the store has answered
            self.port.take_over(delivery)
            stored.hinted = False

    def _hold(self, delivery: Delivery, command: TaskRequest, reply: Reply) -> None:
        self.slots.hold(delivery, command, reply.token)
        if events.listeners:
            self.runtime.emit(
                SlotGranted(
                    pool=command.pool, holder=command.holder, token=reply.token, limit=reply.limit, held=reply.held,
                    label=command.label,
                )
            )  # fmt: skip

    def _apply(self, delivery: Delivery, decided: Verdict) -> None:
        if isinstance(decided, AskAgain):
            self.ask_again(delivery)
            return
        done = self.port.apply(delivery, decided)
        if done is not None:
            self.on_applied(delivery, decided, done=done)

    def on_applied(self, delivery: Delivery, decided: Verdict, *, done: bool) -> None:
        """What was decided was done, or could not be: then the delivery asks again."""
        if not done:
            self.ask_again(delivery)
        if not isinstance(decided, Start | StartWith | StartWithoutSlot | Fail):
            self.slots.free(delivery, requeue=not done)

    def ask_again(self, delivery: Delivery) -> None:
        """Keep the message and ask again later, as the same arrival."""
        state = delivery.state
        if state.command is not None:
            state.command = resent(state.command)
        self.port.apply(delivery, AskAgain())

    def _announce(self, delivery: Delivery, command: TaskRequest, reply: Reply, decided: Verdict) -> None:
        if isinstance(decided, SendLater) and decided.full is None:
            logger.info("%s is running; a copy of its message asks again in %g s", shown(delivery), decided.seconds)
        event = event_of(decided, delivery, command, reply)
        if event is not None:
            self.runtime.emit(event)

    # Heirs that start without asking

    def begin_reserved(self, delivery: Delivery, command: TaskRequest) -> bool:
        """Start an heir at once if its reserved slot is certainly its own; that is reported with the next batch.

        Returns:
            bool: the delivery holds its slot. False: ask the store.
        """
        stored = delivery.state.stored
        if stored is None or not stored.starter or not self.port.accepting or self.clock() >= stored.sure_until:
            return False
        if delivery.limit is not None and delivery.limit.is_overdue(stored.waited_ms):
            return False
        self.slots.hold(delivery, command, stored.token)
        self.outbox.add(command)
        return True

    # Ends

    def on_run_end(self, delivery: Delivery, *, requeue: bool) -> None:
        """The run has ended, however. `requeue`: its message was not acknowledged and will be delivered again."""
        self.slots.free(delivery, requeue=requeue)

    def on_acknowledged(self, delivery: Delivery, *, early: bool) -> None:
        """A delivery whose message the store keeps is done with it: take the message out of the store.

        Args:
            early: acknowledged when the run begins, not when it ends.
        """
        stored, slot = delivery.state.stored, delivery.state.slot
        assert stored is not None
        if slot is None:  # it does not run: revoked, expired, dropped, sent again
            self.send(
                Withdraw(
                    pool=stored.pool, holder=delivery.attempt.holder, start_ms=self.runtime.start_ms, tomb_ms=TOMB_MS,
                    can_start_heirs=self.port.accepting,
                )
            )  # fmt: skip
        elif early:  # it has started: with this worker it would be lost, as always with early acknowledgement
            self.send(Renew(pool=slot.key, holder=slot.holder, token=slot.token, lease_ms=slot.lease_ms, started=True))
        # Else its run has ended, and the release takes the message out of the store, too.

    def give_back(self, delivery: Delivery) -> bool:
        """End the reservation of an heir that does not start here, so that the store offers it to another worker.

        Returns:
            bool: the store answers.
        """
        stored = delivery.state.stored
        assert stored is not None, "it is an heir"
        try:
            self.runtime.store.execute(
                PutBack(
                    pool=stored.pool, holder=delivery.attempt.holder, token=stored.token,
                    start_ms=self.runtime.start_ms, tomb_ms=TOMB_MS, can_start_heirs=False,
                )
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  # its reservation ends by itself
            logger.error("the parked task %s could not be given back: %r", shown(delivery), error)
            return not isinstance(error, CachifyStoreError)
        return True

    def release_all(self, is_running: Callable[[Delivery], bool], acknowledged: Callable[[Delivery], bool]) -> None:
        """The worker has shut down: free the slots of deliveries that it let in and whose runs never began.

        Args:
            is_running: does its process run? One that does keeps its slot for the rest of its lease.
            acknowledged: was its message acknowledged?
        """
        for delivery in self.slots.holding():
            if not is_running(delivery):
                self.slots.free(delivery, requeue=not acknowledged(delivery))

    def _release(self, slot: Slot, requeue: bool, died: bool) -> None:
        if events.listeners:
            self.runtime.emit(
                SlotReleased(
                    pool=slot.key, holder=slot.holder, token=slot.token, label=slot.label,
                    held_s=time.monotonic() - slot.acquired_at,
                )
            )  # fmt: skip
        self.send(
            slot.release_command(
                requeue=requeue,
                can_start_heirs=self.port.accepting,
                reserve_for_me=self.port.reserves_for_itself and not requeue,
                died=died,
            ),
            at_once=requeue,  # before its message can come again
        )

    # For the reaper

    def take_news(self) -> bool:
        """Has this worker parked tasks, or met heirs, since it was asked last? Any thread."""
        news, self._news = self._news, False
        return news

    # Reports

    def send(self, command: Report, *, at_once: bool = False) -> None:
        """Send a command whose answer nobody waits for."""
        self.port.send(command, at_once=at_once)

    def send_now(self, command: Report) -> None:
        """Send one command and act on the answer; if the store is out of reach, it goes into the outbox."""
        since = self.clock()
        try:
            reply = self.runtime.store.execute(command)
        except CachifyStoreError as error:
            self.runtime.emit(StoreUnreachable(doing="releasing slots", error=error))
            self.outbox.add(command)
        else:
            self.on_report_reply(command, reply, since)

    def resend(self) -> None:
        """Send what is in the outbox, in order, until the store does not answer."""
        for entry in iter(self.outbox.take_one, None):
            try:
                reply = self.runtime.store.execute(entry.command)
            except CachifyStoreError as error:
                self.runtime.emit(StoreUnreachable(doing="releasing slots", error=error))
                self.outbox.put_back([entry])
                return
            self.on_report_reply(entry.command, reply, entry.since)

    def on_report_reply(self, command: Report, reply: Reply, since: float) -> None:
        """The store has answered a command of the outbox, which was added at `since` by the worker's clock."""
        match command:
            case Release():
                if reply.status == "lost":
                    self._on_lost(command)
            case (
                Renew() | Withdraw() | PutBack()
            ):  # a lost lease is the lease renewer's business; or the run has ended since
                pass
            case _ if reply.status != "granted":  # an heir has started, and its report came too late
                slot = self.slots.granted_to(command)
                if slot is not None:
                    self.runtime.keeper.on_lost(slot)
        if isinstance(command, Release) and command.reserve_for_me:
            sure_until = since + self.runtime.start_ms / 1000 * SURE
            self.start_heirs(command.pool, reply.heirs, starter=command.request_id, sure_until=sure_until)
        else:
            self.start_heirs(command.pool, reply.heirs)

    def _on_lost(self, command: Release) -> None:
        """The slot of a run that has ended is not its own any more.

        If it was the run of an heir that started without asking, its reservation may have ended before the start
        was reported. The store has granted it another slot then: free that one, by the request id of the start.
        """
        if command.token:
            logger.warning("the lease of %s on pool %r was lost before its run ended", command.holder, command.pool)
            self.send(replace(command, token=0))

    def start_heirs(self, pool: str, heirs: Sequence[Heir], *, starter: str = "", sure_until: float = 0.0) -> None:
        """Start the heirs that a reply names, in the thread that starts heirs."""
        if heirs:
            self._news = True
            self.port.call_in_worker(lambda: self.handovers.start(pool, heirs, starter=starter, sure_until=sure_until))
