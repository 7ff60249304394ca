"""The store in this process's memory: the same commands with the same answers as the Lua scripts."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

from .._core.commands import Command, Find, Inspect, Look, Size
from .._core.key_commands import (
    Claim,
    Delete,
    Due,
    ForgetPostponed,
    Get,
    Locate,
    Ping,
    Pools,
    Postpone,
    Put,
    TakePostponed,
)
from .._core.replies import DuePools
from .._core.store_command import StoreCommand
from ..errors import CachifyStoreError
from .interface import ServerFacts
from .memory_pool import Pool
from .memory_postponed import take_postponed
from .memory_scripts import Notification, Script
from .memory_views import find, inspect, look, size
from .wakeups import Wakeups

A = TypeVar("A")
logger = logging.getLogger("cachify_tasks")

KEEP: Final = 86_400_000_000  # µs that an expired lease which no script has noticed is kept, as its keys are in Redis
PURGE_EVERY: Final = 256  # commands at least between two searches for what has expired

_EPOCH: Final = time.time_ns() // 1000 - time.monotonic_ns() // 1000


def _server_time() -> int:
    """Microseconds since the epoch, by a clock that nobody sets: this store's server is this process."""
    return _EPOCH + time.monotonic_ns() // 1000


class MemoryStore:
    """Slots and cached values in this process; for tests, and for programs that are one process.

    Every thread may use it. A thread that holds `_lock` owns the pools, values and claims; a command holds it from its
    beginning to its end. `_notifications` is appended under the lock and emptied without it, by any thread: a waiter's
    callback may use the store.

    Args:
        clock: the time in microseconds; tests pass one that they move.
    """

    shown = "memory"
    local = True

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock or _server_time
        self._lock = threading.RLock()
        self._pools: dict[str, Pool] = {}
        self._values: dict[str, tuple[bytes, int | None]] = {}
        self._claims: dict[str, int] = {}
        self._postponed: dict[str, dict[str, tuple[int, bytes]]] = {}  # by queue and name: when due, and the message
        self._listeners: dict[str, Callable[[str, int], None]] = {}
        self._notifications: list[Notification] = []
        self._until_purge = PURGE_EVERY
        self._wakeups = Wakeups("wakeups:{}".format, self.execute)
        self.listen(self._wakeups.channel, self._wakeups.notify)

    @property
    def wakeups(self) -> Wakeups:
        return self._wakeups

    def execute(self, command: StoreCommand[A]) -> A:
        with self._lock:
            now = self._clock()
            self._until_purge -= 1
            if self._until_purge < 0:
                self._purge(now)
            answer = self._answer(cast("Command", command), now)
        if self._notifications:
            self._notify_waiters()
        return cast("A", answer)

    async def aexecute(self, command: StoreCommand[A]) -> A:
        return self.execute(command)

    def begin(self, command: StoreCommand[A]) -> asyncio.Future[A]:
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        answer.set_result(self.execute(command))
        return answer

    def execute_many(self, commands: Sequence[StoreCommand[A]]) -> list[A | CachifyStoreError]:
        return [self.execute(command) for command in commands]

    def listen(self, channel: str, callback: Callable[[str, int], None]) -> None:
        """Call callback(holder, token) for each waiter of that channel, in the thread that has reserved its slot."""
        self._listeners[channel] = callback

    def _notify_waiters(self) -> None:
        while self._notifications:
            try:
                channel, holder, token = self._notifications.pop(0)
            except IndexError:  # another thread has taken the last one
                return
            callback = self._listeners.get(channel)
            try:
                if callback is not None:
                    callback(holder, token)
            except Exception:  # the caller, which freed the slot, has done nothing wrong
                logger.exception("a waiter for a slot could not be called: %r on %r", holder, channel)

    def server(self) -> ServerFacts:
        return ServerFacts("noeviction")

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""

    def reset_after_fork(self) -> None:
        """In the child: the waiters and listeners are the parent's."""
        self._lock = threading.RLock()
        self._listeners = {}
        self._notifications = []
        self._wakeups.renew()
        self.listen(self._wakeups.channel, self._wakeups.notify)

    def _answer(self, command: Command, now: int) -> Any:
        match command:
            case Ping():
                return None
            case Get(key):
                value, until = self._values.get(key, (None, None))
                return None if until is not None and until <= now else value
            case Put(key, value, ttl_ms):
                self._values[key] = value, None if ttl_ms is None else now + ttl_ms * 1000
                return None
            case Delete(key):
                self._values.pop(key, None)
                return None
            case Pools():
                return sorted(name for name, pool in self._pools.items() if pool.slots or pool.tickets)
            case Locate(tasks):
                pools = self._pools.items()
                return {task: name for task in tasks for name, pool in pools if task in pool.tasks}
            case Due():
                waiting = {name: pool.due for name, pool in self._pools.items() if pool.tickets}
                return DuePools(sorted(name for name, due in waiting.items() if due <= now), bool(waiting))
            case Claim(name, ttl_ms):
                free = self._claims.get(name, 0) <= now
                if free:
                    self._claims[name] = now + ttl_ms * 1000
                return free
            case Postpone(queue, name, message, delay_ms):
                self._postponed.setdefault(queue, {})[name] = now + delay_ms * 1000, message
                return None
            case TakePostponed(queue, limit, hide_ms):
                return take_postponed(self._postponed.get(queue, {}), limit, hide_ms, now)
            case ForgetPostponed(queue, names):
                for name in names:
                    self._postponed.get(queue, {}).pop(name, None)
                return None
            case Find(name):
                return find(self._pool(name), command)
            case Size(name):
                return size(self._pool(name), now)
            case Look(name):
                return look(self._pool(name), now)
            case Inspect(name):
                return inspect(name, self._pool(name), now)
            case _:
                return Script(self._pools.setdefault(command.pool, Pool()), now, self._notifications).run(command)

    def _pool(self, name: str) -> Pool:
        return self._pools.get(name) or Pool()

    def _purge(self, now: int) -> None:
        """Forget what has expired. The next purge comes after as many commands as there are things that stay."""
        for key in [k for k, (_, until) in self._values.items() if until is not None and until <= now]:
            del self._values[key]
        stay = len(self._values)
        for name, pool in list(self._pools.items()):
            for holder in [h for h, last in pool.tombstones.items() if last.until <= now]:
                del pool.tombstones[holder]
            for holder in [h for h, at in pool.deadlines.items() if at + KEEP < now and h not in pool.tickets]:
                del pool.slots[holder]
                del pool.deadlines[holder]
            if pool.idle:
                del self._pools[name]
            else:
                stay += 1 + len(pool.tombstones) + len(pool.slots)
        self._until_purge = max(PURGE_EVERY, stay)
