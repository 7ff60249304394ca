"""How an answer of the store is acted on in the worker; where requests wait for one is in `hub` and `inline`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from celery.utils.log import get_logger

from .._core.commands import Acquire, Release, Reply
from .._core.decisions import Decision, Defer, Skip
from .._io.heart import heart
from .._io.slot import Slot
from ..errors import CachifyStoreError
from ..settings import UNSET
from ..tasks import decide, full_pool, slot_for
from .actions import drop, forget_copy, put_off
from .app import task_policy
from .child import KEY
from .request import attempts

logger = get_logger("cachify_tasks.celery")

COPY_DELAY: Final = 5.0  # seconds until a copy of a running task asks again
OUTAGE: Final = 0.5, 10.0  # seconds: the first and the longest pause while the store is out of reach
GRACE: Final = 2.0  # seconds that a process over its hard time limit may take to die
LOOK: Final = 0.02  # seconds between two looks whether it has


class Gate:
    """What all kinds share."""

    def __init__(self, engine: Any, worker: Any) -> None:
        self.engine, self.worker = engine, worker
        self._outage = 0.0
        self._holding: set[Any] = set()  # the requests that hold a slot

    def arrived(self, request: Any, cls: type, dispatch: Callable[[], Any]) -> Any:
        """A worker's place is free for this request."""
        raise NotImplementedError

    def prepare(self, request: Any) -> Acquire | None:
        """The command of this arrival; None: its arguments do not fit, and the child will say so."""
        request.runtime = self
        request.request_dict.pop(KEY, None)  # of an earlier attempt, or forged
        try:
            return request.cachify_ask()  # type: ignore[no-any-return]
        except Exception as error:  # noqa: BLE001  # whatever formatting an argument raises fails this task alone
            self.carry(request, failure=["key", str(error)])
            return None

    def carry(self, request: Any, **what: Any) -> None:
        """Put the decision into what is sent to the child."""
        request.request_dict[KEY] = what

    def acted(self, request: Any, ask: Acquire, reply: Reply | CachifyStoreError) -> bool:
        """Act on the store's answer, or on that there is none. Is the request to be dispatched?

        Nothing is raised: an error here must cost neither the worker nor another request.
        """
        try:
            if isinstance(reply, CachifyStoreError):
                return self.failed(request, reply)
            return self.answered(request, ask, reply)
        except Exception:
            logger.exception("%s[%s] could not be handled; trying again", request.name, request.id)
            self.undo(request, again=True)
            self.try_later(request)
            return False

    def answered(self, request: Any, ask: Acquire, reply: Reply) -> bool:
        self._outage = 0.0
        self.engine.told(ask, reply)
        match reply.status:
            case "granted":
                slot = slot_for(self.engine, ask, reply.token)
                request.slot = slot
                self._holding.add(request)
                heart.add(slot)
                self.carry(request, slot=[slot.key, slot.holder, slot.token, ask.rid])
                return True
            case "full":
                return self._full(request, ask, reply)
            case "standby":
                name = f"{request.name}[{request.id}]"
                logger.info("%s is running; a copy of its message asks again in %g s", name, COPY_DELAY)
                return self._send_later(request, COPY_DELAY, attempts(request), "a copy is running", visible=False)
            case "dropped":
                forget_copy(request)
                return False
            case _:
                raise AssertionError(f"the store answered {reply}")

    def _full(self, request: Any, ask: Acquire, reply: Reply) -> bool:
        policy = task_policy(request.task)
        assert policy is not None
        count = attempts(request)
        full = full_pool(ask, reply, count)
        try:
            decision: Decision | None = decide(self.engine, policy, full)
        except Exception:  # noqa: BLE001  # of a strategy that a user wrote: it is asked again where the task would run
            decision = None
        self.engine.full(ask.pool, reply.limit, f"{request.name} -> {type(decision).__name__}")
        why = f"pool {ask.pool!r} is full"
        match decision:
            case Defer(delay_ms):
                return self._send_later(request, delay_ms / 1000, count + 1, why)
            case Skip(result) if result is UNSET:
                drop(request, why)
                return False
            case _:
                self.carry(request, full=[full.key, full.limit, full.held, full.attempt])
                return True

    def _send_later(self, request: Any, seconds: float, count: int, why: str, *, visible: bool = True) -> bool:
        try:
            put_off(request, seconds, count, why, visible=visible)
        except Exception as error:  # noqa: BLE001  # the broker refused it: the message is still ours
            logger.error("%s[%s] could not be sent again: %r; trying later", request.name, request.id, error)
            self.try_later(request)
        return False

    def try_later(self, request: Any) -> None:
        """Keep the message and ask again."""
        raise NotImplementedError

    def failed(self, request: Any, error: CachifyStoreError) -> bool:
        """Act on a store that did not answer. Is the request to be dispatched?"""
        self.engine.unreachable(error, "asking for slots")
        match self.engine.settings.on_store_error:
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

    def ended(self, request: Any, slot: Slot, *, again: bool) -> None:
        """The run of this request has ended; `again`: its message was not acknowledged and will be delivered again."""
        self._holding.discard(request)
        self.free(slot, again=again)

    def undo(self, request: Any, *, again: bool) -> None:
        """Free the slot of a request that does not run after all."""
        slot, request.slot = request.slot, None
        if slot is not None:
            self._holding.discard(request)
            self.free(slot, again=again)

    def left(self) -> None:
        """The worker has shut down: free what it had let in and its pool has never begun, or told nothing about."""
        for request in list(self._holding):
            if not self.runs(request):
                self.undo(request, again=not request.acknowledged)

    def runs(self, request: Any) -> bool:
        """Does its process run? One that does, after a shutdown, keeps its slot for the rest of its lease."""
        return alive(request.worker_pid)

    def free(self, slot: Slot, *, again: bool) -> None:
        heart.remove(slot)
        self.release(slot.release_command(again=again))

    def release(self, command: Release) -> None:
        try:
            self.freed(command, self.engine.store.execute(command))
        except CachifyStoreError as error:
            self.engine.unreachable(error, "releasing slots")

    def freed(self, command: Release, reply: Reply) -> None:
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
