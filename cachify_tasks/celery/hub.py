"""The gate of prefork workers, in the worker's event loop."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from celery.exceptions import TaskRevokedError

from .._core.commands import Acquire, Release, Reply
from .._io.slot import Slot
from ..errors import CachifyStoreError
from .gates import GRACE, LOOK, OUTAGE, Gate, alive


class _Asked(NamedTuple):
    request: Any
    ask: Acquire
    dispatch: Callable[[], Any]


class _Dying(NamedTuple):
    """A slot whose process is being killed."""

    slot: Slot
    pid: int
    again: bool
    until: float


class HubGate(Gate):
    """For prefork: asks in the worker's event loop, for all requests of one turn in one round trip.

    billiard frees a finished task's place before it tells that the task has finished; so a request waits for the end of
    the turn, and slots that were freed in it are freed first.
    """

    def __init__(self, engine: Any, worker: Any) -> None:
        super().__init__(engine, worker)
        self._asked: deque[_Asked] = deque()
        self._ended: deque[tuple[Release, float]] = deque()
        self._unfreed: list[tuple[Release, float]] = []  # their release failed
        self._dying: list[_Dying] = []
        self._called = False
        self._closed_until = 0.0
        self._start = 0  # counts the loop's starts; each is a new connection to the broker
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
        """At every start of the loop. A reset of the hub forgets its readers, and a lost connection may have cost the
        timers; requests of the lost connection cannot be acknowledged any more, and come again.
        """
        if self._pipe is None:
            self._pipe = os.pipe()
            for fd in self._pipe:
                os.set_blocking(fd, False)
        hub.add_reader(self._pipe[0], self._drain)
        hub.on_tick.add(self._tick)
        self._start += 1
        self._asked.clear()
        self._called = False
        self._release_again()
        self._look()

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
            self._act(_Asked(request, ask, dispatch), CachifyStoreError("the store is out of reach"))
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
        if request.time_limit_hit and alive(request.worker_pid):
            self._holding.discard(request)
            self._dying.append(_Dying(slot, request.worker_pid, again, time.monotonic() + GRACE))
            self._look()
        else:
            super().ended(request, slot, again=again)

    def _look(self) -> None:
        """Free the slots of those that have died."""
        dying, self._dying = self._dying, []
        for one in dying:
            if self.looping and alive(one.pid) and time.monotonic() < one.until:
                self._dying.append(one)
            else:
                self.free(one.slot, again=one.again)
        if self._dying:
            self.hub.call_later(LOOK, self._look)

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
            self._unfreed.append((command, since))
            if len(self._unfreed) == 1:
                self.hub.call_later(OUTAGE[0], self._release_again)

    def _release_again(self) -> None:
        self._ended.extend(self._unfreed)
        self._unfreed.clear()
        self._call()

    def _act(self, one: _Asked, reply: Reply | CachifyStoreError) -> None:
        if not self.acted(one.request, one.ask, reply):
            self._free_place()
            return
        try:
            one.dispatch()
        except TaskRevokedError:
            self.undo(one.request, again=False)
            self._free_place()

    def _free_place(self) -> None:
        """Of the worker's semaphore, from the loop: freed inline, a thousand refusals in a row nest too deep."""
        release = getattr(self.worker, "_quick_release", None)
        if release is not None and self.worker.process_task == self.worker._process_task_sem:
            self.hub.call_soon(release)

    def try_later(self, request: Any) -> None:
        if self.looping:
            delay = max(self._closed_until - time.monotonic(), OUTAGE[0])
            self.hub.call_later(delay, self._again, request, self._start)

    def _again(self, request: Any, start: int) -> None:
        if self.looping and start == self._start:
            self.worker.process_task(request)
