"""How an answer of the store is acted on in the worker; where requests wait for one is in `hub` and `inline`."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from celery.bootsteps import RUN  # type: ignore[attr-defined]
from celery.utils.log import get_logger
from celery.worker import state

from .._core.commands import Acquire, Heir, Release, Renew, Reply, SlotRequest, StartReserved, Withdraw
from .._core.decisions import Decision, Defer, Skip
from .._runtime.events import LimitsDiffer, PoolFull, StoreUnreachable, TaskParked
from .._runtime.lease_renewer import lease_renewer
from .._runtime.slot import Slot
from .._worker.requests import decide, default_on_full, full_pool, slot_for
from ..errors import CachifyStoreError
from ..settings import UNSET
from .app import task_policy
from .child_admission import KEY
from .handovers import Heirs, Ticket
from .outcomes import drop, forget, forget_copy, leave, put_off
from .request import attempts, is_nudge, waited_ms

logger = get_logger("cachify_tasks.celery")
Told: TypeAlias = SlotRequest | Release | Withdraw | Renew  # an Acquire: of a heir that has begun already

COPY_DELAY: Final = 5.0  # seconds until a copy of a running task asks again
OUTAGE: Final = 0.5, 10.0  # seconds: the first and the longest pause while the store is out of reach
GRACE: Final = 2.0  # seconds that a process over its hard time limit may take to die
LOOK: Final = 0.02  # seconds between two looks whether it has


class Gate(ABC):
    """What all kinds share."""

    runs_heirs = True  # here, or only in the worker that gets them from their queue
    binds = False  # are heirs to begin before the store has been asked once more?

    def __init__(self, runtime: Any, worker: Any) -> None:
        self.runtime, self.worker = runtime, worker
        self._outage = 0.0
        self._untold: deque[tuple[Told, float]] = deque()  # their sending failed
        self._holding: set[Any] = set()  # the requests that hold a slot
        self.heirs = Heirs(self, worker)

    @property
    def accepting(self) -> bool:
        """Will the worker's loop turn again? Not once a warm shutdown has begun: then nothing may be put off."""
        consumer = self.worker.consumer
        return consumer is not None and consumer.blueprint.state == RUN

    @property
    def can_start_heirs(self) -> bool:
        """Can this worker start heirs now? Else the store keeps them for others."""
        return self.accepting

    @property
    def has_capacity(self) -> bool:
        """Has the reaper's thread a use here?

        What it reserves for a worker whose places are taken waits in vain, as for one whose loop stands still until it
        has its broker again.
        """
        stands = self.worker.hub is not None and self.worker.consumer.connection is None
        return self.can_start_heirs and not stands and len(state.active_requests) < self.worker.pool.num_processes

    @property
    def closed(self) -> bool:
        """Does it send nothing because the store did not answer?"""
        return False

    def reopen(self) -> None:  # noqa: B027  # only one that can be closed
        """The store answers again, told by the reaper's thread."""

    def register(self, hub: Any) -> None:
        """The worker's event loop starts, if it has one: anew with each connection to the broker."""
        self.heirs.reconnected()

    def drain(self) -> None:  # noqa: B027  # only a gate that sends by a connection of its own has something left
        """The worker is shutting down: send what there is, and wait for the answers."""

    def launch(self, request: Any) -> None:
        """Run a heir as soon as there is a place for it, before what the broker has delivered."""
        self.worker.process_task(request)

    @abstractmethod
    def offer(self, pool: str, heirs: Sequence[Heir]) -> None:
        """Start heirs, told by a thread that is not the worker's."""

    def named(self, pool: str, reply: Reply) -> None:
        """Start the heirs that a reply names."""
        if reply.heirs:
            self.heirs.start(pool, reply.heirs)

    def tell(self, command: Told) -> None:
        """Send a command whose answer nobody waits for."""
        try:
            reply = self.runtime.store.execute(command)
        except CachifyStoreError as error:
            self.runtime.emit(StoreUnreachable(doing="releasing slots", error=error))
            self._untold.append((command, time.monotonic()))
        else:
            self.freed(command, reply)

    def _oldest_untold(self) -> tuple[Told, float] | None:
        try:
            return self._untold.popleft()
        except IndexError:
            return None

    def tell_again(self) -> None:
        """What the store did not hear, by the reaper's thread. It answers the same however often it is told; after a
        lease there is nothing left to free.
        """
        for command, since in iter(self._oldest_untold, None):
            if time.monotonic() - since > self.runtime.lease_ms / 1000:
                continue
            try:
                reply = self.runtime.store.execute(command)
            except CachifyStoreError as error:
                self.runtime.emit(StoreUnreachable(doing="releasing slots", error=error))
                self._untold.appendleft((command, since))  # in their order
                return
            self._heed(command, reply)
            if reply.heirs:
                self.offer(command.pool, reply.heirs)

    @abstractmethod
    def arrived(self, request: Any, cls: type, dispatch: Callable[[], Any]) -> Any:
        """A worker's place is free for this request."""

    def prepare(self, request: Any) -> SlotRequest | None:
        """The command of this arrival; None: it has no pool, or its arguments do not fit, and the child will say so."""
        request.gate_here = self
        self.heirs.begun(request)
        request.request_dict.pop(KEY, None)  # of an earlier attempt, or forged
        try:
            return request.cachify_ask()  # type: ignore[no-any-return]
        except Exception as error:  # noqa: BLE001  # whatever formatting an argument raises fails this task alone
            self.carry(request, failure=["key", str(error)])
            return None

    def carry(self, request: Any, **what: Any) -> None:
        """Put the decision into what is sent to the child."""
        request.request_dict[KEY] = what

    def acted(self, request: Any, ask: SlotRequest, reply: Reply | CachifyStoreError) -> bool:
        """Act on the store's answer, or on that there is none. Is the request to be dispatched?

        Nothing is raised: an error here must cost neither the worker nor another request.
        """
        try:
            if isinstance(reply, CachifyStoreError):
                return self.failed(request, reply)
            return self.answered(request, ask, reply)
        except Exception:
            logger.exception("%s[%s] could not be handled; trying again", request.name, request.id)
            self.undo(request, requeue=True)
            self.try_later(request)
            return False

    def answered(self, request: Any, ask: SlotRequest, reply: Reply) -> bool:
        self._outage = 0.0
        if reply.previous_limit:
            self.runtime.emit(LimitsDiffer(pool=ask.pool, previous_limit=reply.previous_limit, limit=ask.limit))
        self.named(ask.pool, reply)
        if (
            isinstance(ask, StartReserved) and request.ticket is None
        ):  # a hint has done its work when the store has answered
            request.acknowledge()
            request.acknowledged = False
            Ticket(self, ask.pool, ask.holder, waited_ms(request)).own(request)
        match reply.status:
            case "granted":
                self.hold(request, ask, reply.token)
                if request.ticket is not None and request.revoked():
                    self.undo(request, requeue=False)
                    return False
                return self._full(request, ask, reply) if self.overdue(request) else True
            case "full":
                return self._full(request, ask, reply)
            case "parked":
                self._parked(request, ask, reply)
                return False
            case "standby" if isinstance(ask, Acquire) and ask.ticket is not None:
                logger.info("%s[%s] is running; a copy of its message is kept aside", request.name, request.id)
                forget(request)
                return False
            case "standby":
                name = f"{request.name}[{request.id}]"
                logger.info("%s is running; a copy of its message asks again in %g s", name, COPY_DELAY)
                self._sent_later(request, COPY_DELAY, attempts(request), "a copy is running", visible=False)
                return False
            case "dropped":
                if isinstance(ask, StartReserved):
                    leave(request)
                else:
                    forget_copy(request)
                return False
            case _:
                raise AssertionError(f"the store answered {reply}")

    def hold(self, request: Any, ask: SlotRequest, token: int) -> None:
        """The request has its slot now."""
        request.slot = slot = slot_for(self.runtime, ask, token)
        self._holding.add(request)
        lease_renewer.add(slot)
        self.carry(request, slot=[slot.key, slot.holder, slot.token, slot.request_id])

    def _parked(self, request: Any, ask: SlotRequest, reply: Reply) -> None:
        """The store has the message now; of a hint, it had it already."""
        if request.ticket is not None:
            leave(request)
            return
        self.runtime.emit(
            TaskParked(pool=ask.pool, holder=ask.holder, label=request.name, limit=reply.limit, held=reply.held)
        )
        request.send_event("cachify-parked", pool=ask.pool)
        forget(request)

    def overdue(self, request: Any) -> bool:
        """Has a parked task waited longer than its strategy allows?"""
        if request.ticket is None:
            return False
        policy = task_policy(request.task)
        parking = policy.parks(default_on_full(self.runtime)) if policy else None
        return bool(parking and parking.max_age_ms and request.ticket.waited_ms > parking.max_age_ms)

    def _full(self, request: Any, ask: SlotRequest, reply: Reply) -> bool:
        policy = task_policy(request.task)
        assert policy is not None
        count = attempts(request)
        full = full_pool(ask, reply, count)
        try:
            decision: Decision | None = decide(self.runtime, policy, full)
        except Exception:  # noqa: BLE001  # of a strategy that a user wrote: it is asked again where the task would run
            decision = None
        self.runtime.emit(
            PoolFull(
                pool=ask.pool, holder=ask.holder, label=request.name, limit=reply.limit, held=reply.held,
                decision=type(decision).__name__,
            )
        )  # fmt: skip
        why = f"pool {ask.pool!r} is full"
        match decision:
            case Defer(delay_ms):
                sent = self._sent_later(request, delay_ms / 1000, count + 1, why)
                self.undo(request, requeue=not sent)
                return False
            case Skip(result) if result is UNSET:
                drop(request, why)
                self.undo(request, requeue=False)
                return False
            case _:
                self.carry(request, full=[full.key, full.limit, full.held, full.attempt])
                return True

    def _sent_later(self, request: Any, seconds: float, count: int, why: str, *, visible: bool = True) -> bool:
        try:
            put_off(request, seconds, count, why, visible=visible)
        except Exception as error:  # noqa: BLE001  # the broker refused it: the message is still ours
            logger.error("%s[%s] could not be sent again: %r; trying later", request.name, request.id, error)
            self.try_later(request)
            return False
        return True

    @abstractmethod
    def try_later(self, request: Any) -> None:
        """Keep the message and ask again."""

    def failed(self, request: Any, error: CachifyStoreError) -> bool:
        """Act on a store that did not answer. Is the request to be dispatched?"""
        self.runtime.emit(StoreUnreachable(doing="asking for slots", error=error))
        if request.ticket is not None or is_nudge(request):  # whatever it did now, the store would start it again
            self.try_later(request)
            return False
        match self.runtime.settings.on_store_error:
            case "run":
                self.carry(request, open=True)
                return True
            case "raise":
                self.carry(request, failure=["store", str(error)])
                return True
            case _:
                self.try_later(request)
                return False

    def pause(self) -> float:
        """Seconds until the store is tried again."""
        self._outage = min(self._outage * 2 or OUTAGE[0], OUTAGE[1])
        return self._outage

    def ended(self, request: Any, slot: Slot, *, requeue: bool) -> None:
        """The run of this request has ended; `again`: its message was not acknowledged and will be delivered again."""
        self._holding.discard(request)
        self.free(slot, requeue=requeue)

    def undo(self, request: Any, *, requeue: bool) -> None:
        """Free the slot of a request that does not run after all."""
        slot, request.slot = request.slot, None
        if slot is not None:
            self._holding.discard(request)
            self.free(slot, requeue=requeue)

    def left(self) -> None:
        """The worker has shut down: free what it had let in and its pool has never begun, or told nothing about."""
        for request in list(self._holding):
            if not self.runs(request):
                self.undo(request, requeue=not request.acknowledged)

    def runs(self, request: Any) -> bool:
        """Does its process run? One that does, after a shutdown, keeps its slot for the rest of its lease."""
        return alive(request.worker_pid)

    def give_back(self, request: Any) -> bool:
        """End the reservation of a heir that does not start here: take the slot, and free it for once more.

        Returns:
            bool: does the store answer?
        """
        request.gate_here = self
        try:
            ask = replace(request.cachify_ask(), can_start_heirs=False)
            reply = self.runtime.store.execute(ask)
            if reply.status == "granted":
                self.runtime.store.execute(slot_for(self.runtime, ask, reply.token).release_command(requeue=True))
        except Exception as error:  # noqa: BLE001  # its reservation ends by itself
            logger.error("the parked task %s[%s] could not be given back: %r", request.name, request.id, error)
            return not isinstance(error, CachifyStoreError)
        return True

    def free(self, slot: Slot, *, requeue: bool) -> None:
        lease_renewer.remove(slot)
        self.tell(
            slot.release_command(
                requeue=requeue, can_start_heirs=self.can_start_heirs, reserve_for_me=self.binds and not requeue
            )
        )

    def freed(self, command: Told, reply: Reply) -> None:
        self._heed(command, reply)
        self.named(command.pool, reply)

    def _heed(self, command: Told, reply: Reply) -> None:
        if reply.status == "lost":
            logger.warning("the lease of %s on pool %r was lost before its run ended", command.holder, command.pool)


def alive(pid: int | None) -> bool:
    """Does this process run?"""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
