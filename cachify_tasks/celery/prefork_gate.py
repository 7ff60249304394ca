"""The gate of prefork workers, in the worker's event loop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, repeat
from typing import Any, Final, NamedTuple

from celery.exceptions import TaskRevokedError
from celery.utils.log import get_logger

from .._core.commands import Heir, Release, Reply, SlotRequest, resent
from .._redis.hub_connection import Pipe
from .._runtime.events import StoreUnreachable
from .._runtime.lease_renewer import lease_renewer
from .._runtime.slot import Slot
from .._worker.requests import slot_for
from ..errors import CachifyStoreError
from .gate import GRACE, LOOK, OUTAGE, Gate, Told, alive
from .loop_waker import LoopWaker

logger = get_logger("cachify_tasks.celery")
SURE: Final = 0.5  # of the life of a reservation: counted from before it was asked for, it cannot have ended
SOON: Final = 0.01  # seconds until the store is told at the latest that a heir has begun
BEAT: Final = 0.5  # seconds between two looks for what the store has not answered, or not heard


class _Asked(NamedTuple):
    request: Any
    ask: SlotRequest
    dispatch: Callable[[], Any]


class _Dying(NamedTuple):
    """A slot whose process is being killed."""

    slot: Slot
    pid: int
    requeue: bool
    until: float


class HubGate(Gate):
    """For prefork: asks in the worker's event loop, for all requests of one turn in one write, and waits for nothing.

    billiard frees a finished task's place before it tells that the task has finished; so a request waits for the end of
    the turn, and slots that were freed in it are freed first.
    """

    binds = True

    def __init__(self, runtime: Any, worker: Any) -> None:
        super().__init__(runtime, worker)
        self._asked: deque[_Asked] = deque()
        self._ended: deque[tuple[Told, float]] = deque()
        self._begun: list[tuple[Told, float]] = []  # heirs that the store is to be told of
        self._unheard: list[tuple[Told, float]] = []  # their sending failed
        self._offered: deque[tuple[str, Sequence[Heir]]] = deque()  # by the reaper's thread
        self._dying: list[_Dying] = []
        self._behind: Any = None  # what waited for a place behind the heir that went last
        self._called = False
        self._closed_until = 0.0
        self._start = 0  # counts the loop's starts; each is a new connection to the broker
        self._loop_waker = LoopWaker(self._hear)
        self._pipe = Pipe(runtime.store, self._watch, self._unwatch)
        self._beating: Any = None

    @property
    def hub(self) -> Any:
        return self.worker.hub

    def launch(self, request: Any) -> None:
        """A heir has a slot that waits for it: it goes before what the broker has delivered. Between two of them one of
        those goes: heirs without end must not keep tasks of other pools from their places.
        """
        semaphore = self.worker.semaphore
        if semaphore is None or self.worker.process_task != self.worker._process_task_sem:
            self.worker.process_task(request)
        elif semaphore.value > 0:
            semaphore.acquire(self.worker._process_task, request)
        else:
            waiting = semaphore._waiting
            place = 1 if waiting and waiting[0] is self._behind else 0  # that one has let the last heir go first
            for index, (go, *_) in enumerate(islice(waiting, 2 * len(self.heirs) + 1)):
                if go == self._go:
                    place = index + 2
            waiting.insert(place, (self._go, (request,), {}))

    def _go(self, request: Any) -> None:
        """The turn of a heir that had to wait."""
        waiting = self.worker.semaphore._waiting
        self._behind = waiting[0] if waiting else None
        self.worker._process_task(request)

    def offer(self, pool: str, heirs: Sequence[Heir]) -> None:
        self._offered.append((pool, heirs))
        self._loop_waker.wake()

    def register(self, hub: Any) -> None:
        """At every start of the loop. A reset of the hub forgets its readers, and a lost connection may have cost the
        timers; requests of the lost connection cannot be acknowledged any more, and come again.
        """
        self._loop_waker.register(hub)
        self._pipe.watch()
        if self._beating is not None:
            self._beating.cancel()
        self._beating = hub.call_repeatedly(BEAT, self._beat)
        hub.on_tick.add(self._tick)
        self._start += 1
        asked, self._asked = self._asked, deque()
        self._called = False
        self._let_go()
        self.heirs.keep(one.request for one in asked)
        self.heirs.reconnected()
        self._call()
        self._look()

    def _let_go(self) -> None:
        """With its connection Celery throws away the jobs that no process has said to have begun: nobody will tell of
        their ends. One that was on its way to its process runs all the same, so its slot is not freed here; it is not
        renewed either, and with the end of its lease its message, which comes again, may run.
        """
        jobs = self.worker.pool._pool._cache
        for request in list(self._holding):
            job = request._apply_result and request._apply_result()
            if job is None or job._job not in jobs:
                slot, request.slot = request.slot, None
                self._holding.discard(request)
                if slot is not None:
                    lease_renewer.remove(slot)
                    logger.warning("%s[%s] was let go with its connection", request.name, request.id)

    def _watch(self, fd: int) -> None:
        self.hub.add_reader(fd, self._pipe.readable)

    def _unwatch(self, fd: int) -> None:
        self.hub.remove_reader(fd)

    def _hear(self) -> None:
        while self._offered:
            self.heirs.start(*self._offered.popleft())

    @property
    def closed(self) -> bool:
        return time.monotonic() < self._closed_until

    def reopen(self) -> None:
        self._closed_until = 0.0  # the next beat sends what the store did not hear

    def _beat(self) -> None:
        self._pipe.look()
        if self._unheard:
            self.flush()

    def _tick(self) -> None:
        """Before the loop sleeps: what a timer has put off in this turn must not wait for the next event."""
        if self._asked or self._ended:
            self._called = False
            self._call()
            self._loop_waker.wake()

    def _call(self) -> None:
        if not self._called and (self._asked or self._ended or self._begun):
            self._called = True
            self.hub.call_soon(self.flush)

    def arrived(self, request: Any, cls: type, dispatch: Callable[[], Any]) -> None:
        if request.revoked():
            raise TaskRevokedError(request.id)
        ask = self.prepare(request)
        if ask is None:
            dispatch()
        elif request.ticket is not None and request.ticket.assured and self.accepting and not self.overdue(request):
            self._begin(request, ask, dispatch)
        elif self.closed:
            self._act(_Asked(request, ask, dispatch), CachifyStoreError("the store is out of reach"))
        else:
            self._asked.append(_Asked(request, ask, dispatch))
            self._call()

    def _begin(self, request: Any, ask: SlotRequest, dispatch: Callable[[], Any]) -> None:
        """Its slot is bound to this worker: it goes to its process at once. The store is told with what comes next,
        most often that it has been acknowledged: until then nothing is to keep a processor from it.
        """
        self.hold(request, ask, request.ticket.token)
        if not self._begun:
            self.hub.call_later(SOON, self._call)
        self._begun.append((ask, time.monotonic()))
        self._dispatch(request, dispatch)

    def tell(self, command: Told) -> None:
        self._ended.append((command, time.monotonic()))
        if self.accepting and not getattr(command, "again", False):
            self._call()
        else:  # before its message can come again; behind all that was said of it
            self.drain()

    def ended(self, request: Any, slot: Slot, *, requeue: bool) -> None:
        """After a hard time limit the process dies a moment later: only then is its slot free."""
        if request.time_limit_hit and alive(request.worker_pid):
            self._holding.discard(request)
            self._dying.append(_Dying(slot, request.worker_pid, requeue, time.monotonic() + GRACE))
            self._look()
        else:
            super().ended(request, slot, requeue=requeue)

    def _look(self) -> None:
        """Free the slots of those that have died."""
        dying, self._dying = self._dying, []
        for one in dying:
            if self.accepting and alive(one.pid) and time.monotonic() < one.until:
                self._dying.append(one)
            else:
                self.free(one.slot, requeue=one.requeue)
        if self._dying:
            self.hub.call_later(LOOK, self._look)

    def left(self) -> None:
        self._look()  # the loop will not
        super().left()
        self.reopen()
        self.drain()  # once more what was not heard: nobody tells it later

    def flush(self) -> None:
        """Send what has ended and then what has arrived; the loop goes on until the answers come.

        What the store did not hear goes first: that a heir has begun must not come after its end. While the store is
        out of reach nothing is sent: the loop, or a shutdown, stands still while it tries to connect.
        """
        self._called = False
        self._begun.extend(self._ended)
        ended, self._begun, self._ended = self._begun, [], deque()
        asked, self._asked = self._asked, deque()
        if not self.accepting:  # unacknowledged: the broker will deliver them to others
            self.heirs.keep(one.request for one in asked)
            asked.clear()
            ended = [*self._unheard, *iter(self._oldest_untold, None), *ended]
            self._unheard = []
        if self.closed:
            self._hear_all(ended, asked, self._start, repeat(CachifyStoreError("the store is out of reach")))
            return
        ended, self._unheard = self._unheard + ended, []
        commands = [command for command, _ in ended] + [one.ask for one in asked]
        if commands:
            self._pipe.send(commands, partial(self._told, ended, asked, self._start))

    def drain(self) -> None:
        """Send what there is and wait for every answer."""
        self.flush()
        self._pipe.drain()

    def _told(
        self,
        ended: Iterable[tuple[Told, float]],
        asked: Iterable[_Asked],
        start: int,
        replies: list[Any] | CachifyStoreError,
    ) -> None:
        if isinstance(replies, CachifyStoreError):
            self._closed_until = time.monotonic() + self.pause()
            self._hear_all(ended, asked, start, repeat(replies))
        else:
            self._hear_all(ended, asked, start, iter(replies))

    def _hear_all(
        self, ended: Iterable[tuple[Told, float]], asked: Iterable[_Asked], start: int, told: Iterator[Any]
    ) -> None:
        for (command, since), reply in zip(ended, told, strict=False):
            if isinstance(reply, CachifyStoreError):
                self._tell_later(command, since, reply)
            else:
                self._heard(command, reply, since)
        for one, reply in zip(asked, told, strict=False):
            if start == self._start and self.accepting:
                self._act(one, reply)
            elif isinstance(reply, Reply) and reply.status == "granted":  # its message comes again, perhaps elsewhere
                self.tell(slot_for(self.runtime, one.ask, reply.token).release_command(requeue=True))
        if self._asked and self.accepting:  # by heirs: their slots wait for them
            self.flush()

    def _heard(self, command: Told, reply: Reply, since: float) -> None:
        if isinstance(command, SlotRequest) and reply.status != "granted":
            self._lost(command)
            self.named(command.pool, reply)
        elif isinstance(command, Release) and command.reserve_for_me and reply.heirs:
            self._heed(command, reply)
            surely = since + self.runtime.start_ms / 1000 * SURE
            self.heirs.start(command.pool, reply.heirs, command.request_id, surely)
        else:
            self.freed(command, reply)

    def _lost(self, ask: SlotRequest) -> None:
        """It has begun, and was told of too late: its slot is somebody else's."""
        for request in self._holding:
            if request.ask is ask:
                lease_renewer.remove(request.slot)
                self.runtime.keeper.on_lost(request.slot)

    def _tell_later(self, command: Told, since: float, error: CachifyStoreError) -> None:
        """It answers the same however often it is sent; after its lease there is nothing left to free."""
        self.runtime.emit(StoreUnreachable(doing="releasing slots", error=error))
        if not self.accepting:
            self._untold.append((command, since))
        elif time.monotonic() - since < self.runtime.lease_ms / 1000:
            self._unheard.append((command, since))

    def _act(self, one: _Asked, reply: Reply | CachifyStoreError) -> None:
        if not self.acted(one.request, one.ask, reply):
            self._free_place()
        else:
            self._dispatch(one.request, one.dispatch)

    def _dispatch(self, request: Any, dispatch: Callable[[], Any]) -> None:
        try:
            dispatch()
        except TaskRevokedError:
            self.undo(request, requeue=False)
            self._free_place()

    def _free_place(self) -> None:
        """Of the worker's semaphore, from the loop: freed inline, a thousand refusals in a row nest too deep."""
        release = getattr(self.worker, "_quick_release", None)
        if release is not None and self.worker.process_task == self.worker._process_task_sem:
            self.hub.call_soon(release)

    def try_later(self, request: Any) -> None:
        request.ask = request.ask and resent(request.ask)
        if self.accepting:
            delay = max(self._closed_until - time.monotonic(), OUTAGE[0])
            self.hub.call_later(delay, self._again, request, self._start)

    def _again(self, request: Any, start: int) -> None:
        if self.accepting and start == self._start:
            self.worker.process_task(request)
