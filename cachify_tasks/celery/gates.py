"""Where a request waits for its slot: in the worker's event loop, or where its pool runs it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from celery.exceptions import TaskRevokedError
from celery.utils.log import get_logger

from .._core.commands import Acquire, Release, Reply
from .._core.decisions import Defer, Skip
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
    """What both kinds share: how an answer of the store is acted on."""

    def __init__(self, engine: Any, worker: Any) -> None:
        self.engine, self.worker = engine, worker
        self._outage = 0.0
        self._closed_until = 0.0

    def arrived(self, request: Any, cls: type, dispatch: Callable[[], Any]) -> Any:
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
        request.request_dict[KEY] = {"host": request.hostname, **what}

    def answered(self, request: Any, ask: Acquire, reply: Reply) -> bool:
        """Act on the store's answer. Is the request to be dispatched?"""
        self._outage = 0.0
        self.engine.told(ask, reply)
        match reply.status:
            case "granted":
                slot = slot_for(self.engine, ask, reply.token)
                heart.add(slot)
                request.slot = slot
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
        decision = decide(self.engine, policy, full)
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
        """The run of this request has ended."""
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


class _Asked(NamedTuple):
    request: Any
    ask: Acquire
    dispatch: Callable[[], Any]


class HubGate(Gate):
    """For prefork: asks in the worker's event loop, for all requests of one turn in one round trip.

    billiard frees a finished task's place before it tells that the task has finished; so a request waits for the end of
    the turn, and slots that were freed in it are freed first.
    """

    def __init__(self, engine: Any, worker: Any) -> None:
        super().__init__(engine, worker)
        self._asked: deque[_Asked] = deque()
        self._ended: deque[tuple[Release, float]] = deque()
        self._called = False
        self._pipe: tuple[int, int] | None = None

    @property
    def hub(self) -> Any:
        return self.worker.hub

    @property
    def looping(self) -> bool:
        """Will the event loop turn again? Not once a warm shutdown has begun: then nothing may be put off."""
        consumer = self.worker.consumer
        return consumer is not None and consumer.blueprint.state == 1  # RUN

    def register(self, hub: Any) -> None:
        """At every start of the loop: a reset of the hub forgets its readers."""
        if self._pipe is None:
            self._pipe = os.pipe()
            for fd in self._pipe:
                os.set_blocking(fd, False)
        hub.add_reader(self._pipe[0], self._drain)
        hub.on_tick.add(self._tick)
        self._called = False
        self._call()

    def _drain(self) -> None:
        assert self._pipe is not None
        with suppress(BlockingIOError):
            os.read(self._pipe[0], 4096)

    def _tick(self) -> None:
        """Before the loop sleeps: what a timer has put off in this turn must not wait for the next event."""
        if (self._asked or self._ended) and self._pipe is not None:
            self._called = False
            self._call()
            with suppress(BlockingIOError):
                os.write(self._pipe[1], b".")

    def _call(self) -> None:
        if not self._called and (self._asked or self._ended):
            self._called = True
            self.hub.call_soon(self.flush)

    def arrived(self, request: Any, cls: type, dispatch: Callable[[], Any]) -> None:
        if request.revoked():
            raise TaskRevokedError(request.id)
        ask = self.prepare(request)
        if ask is None:
            dispatch()
        elif time.monotonic() < self._closed_until:
            if self.failed(request, CachifyStoreError("the store is out of reach")):
                dispatch()
            else:
                self._free_place()
        else:
            self._asked.append(_Asked(request, ask, dispatch))
            self._call()

    def release(self, command: Release) -> None:
        if self.looping and not command.again:
            self._ended.append((command, time.monotonic()))
            self._call()
        else:
            super().release(command)

    def ended(self, request: Any, slot: Slot, *, again: bool) -> None:
        """After a hard time limit the process dies a moment later: only then is its slot free."""
        if request.time_limit_hit and _alive(request.worker_pid):
            self._free_when_dead(slot, request.worker_pid, again, time.monotonic() + GRACE)
        else:
            super().ended(request, slot, again=again)

    def _free_when_dead(self, slot: Slot, pid: int, again: bool, until: float) -> None:
        if self.looping and _alive(pid) and time.monotonic() < until:
            self.hub.call_later(LOOK, self._free_when_dead, slot, pid, again, until)
        else:
            heart.remove(slot)
            self.release(slot.release_command(again=again))

    def flush(self) -> None:
        """One round trip: free what has ended, then ask for what has arrived."""
        self._called = False
        ended, self._ended = self._ended, deque()
        asked, self._asked = self._asked, deque()
        if not self.looping:  # unacknowledged: the broker will deliver them to others
            asked.clear()
        commands = [command for command, _ in ended] + [one.ask for one in asked]
        if not commands:
            return
        try:
            replies = self.engine.store.execute_many(commands)
        except CachifyStoreError as error:
            replies = [error] * len(commands)
            self._closed_until = time.monotonic() + self.pause()
        for (command, since), reply in zip(ended, replies, strict=False):
            if isinstance(reply, CachifyStoreError):
                self._release_later(command, since, reply)
            else:
                self.freed(command, reply)
        for one, reply in zip(asked, replies[len(ended) :], strict=True):
            self._act(one, reply)

    def _release_later(self, command: Release, since: float, error: CachifyStoreError) -> None:
        """It answers the same however often it is sent; after its lease there is nothing left to free."""
        self.engine.unreachable(error, "releasing slots")
        if time.monotonic() - since < self.engine.lease_ms / 1000 and self.looping:
            self.hub.call_later(OUTAGE[0], self._release_again, command, since)

    def _release_again(self, command: Release, since: float) -> None:
        self._ended.append((command, since))
        self._call()

    def _act(self, one: _Asked, reply: Reply | CachifyStoreError) -> None:
        request = one.request
        try:
            if isinstance(reply, CachifyStoreError):
                goes = self.failed(request, reply)
            else:
                goes = self.answered(request, one.ask, reply)
        except Exception:  # an error here must cost neither the worker nor the other requests of this turn
            logger.exception("%s[%s] could not be handled; trying again", request.name, request.id)
            self.try_later(request)
            goes = False
        if not goes:
            self._free_place()
            return
        try:
            one.dispatch()
        except TaskRevokedError:
            self._undo(request)
            self._free_place()

    def _undo(self, request: Any) -> None:
        slot, request.slot = request.slot, None
        if slot is not None:
            super().ended(request, slot, again=False)

    def _free_place(self) -> None:
        """Of the worker's semaphore, from the loop: freed inline, a thousand refusals in a row nest too deep."""
        release = getattr(self.worker, "_quick_release", None)
        if release is not None and self.worker.process_task == self.worker._process_task_sem:
            self.hub.call_soon(release)

    def try_later(self, request: Any) -> None:
        if self.looping:
            self.hub.call_later(max(self._closed_until - time.monotonic(), OUTAGE[0]), self._again, request)

    def _again(self, request: Any) -> None:
        if self.looping:
            self.worker.process_task(request)


class InlineGate(Gate):
    """For threads, solo and greenlets: asks where the task will run, before the task is accepted.

    There a request may wait in the pool's own queue; a slot taken before that would be hoarded.
    """

    def arrived(self, request: Any, cls: type, dispatch: Callable[[], Any]) -> Any:
        # Not `dispatch`: the class that Celery generates ignores the pool it is given.
        inherited: Any = super(cls, request)
        return inherited.execute_using_pool(_GatedPool(self.worker.pool, self, request))

    def enter(self, request: Any) -> bool:
        """Is the request to run here and now?"""
        ask = self.prepare(request)
        if ask is None:
            return True
        try:
            reply = self.engine.store.execute(ask)
        except CachifyStoreError as error:
            return self.failed(request, error)
        return self.answered(request, ask, reply)

    def try_later(self, request: Any) -> None:
        """Hand the message back to the broker with a delay; only if that fails too, wait here."""
        pause = self.pause()
        while True:
            try:
                put_off(request, pause, attempts(request), "the store is out of reach", visible=False)
            except Exception as error:  # noqa: BLE001  # the message is still ours
                self.engine.unreachable(CachifyStoreError(repr(error)), "sending a task again")
                time.sleep(pause)
            else:
                return


class _GatedPool:
    """A worker pool whose next job asks for a slot when its turn has come."""

    def __init__(self, pool: Any, gate: InlineGate, request: Any) -> None:
        self._pool, self._gate, self._request = pool, gate, request

    def apply_async(
        self,
        target: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        *,
        accept_callback: Callable[[int, float], None],
        callback: Callable[[Any], None],
        **options: Any,
    ) -> Any:
        pids: list[int] = []
        refused = object()

        def accepted(pid: int, _: float) -> None:
            pids.append(pid)

        def run(*args: Any, **kwargs: Any) -> Any:
            if not self._gate.enter(self._request):
                return refused
            accept_callback(pids[0], time.monotonic())
            return target(*args, **kwargs)

        def done(result: Any) -> None:
            if result is not refused:
                callback(result)

        return self._pool.apply_async(run, args, kwargs, accept_callback=accepted, callback=done, **options)


def _alive(pid: int | None) -> bool:
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
