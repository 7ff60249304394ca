"""The store in this process's memory: the same commands with the same answers as the Lua scripts."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from .._core.commands import (
    Claim,
    Command,
    Delete,
    Due,
    Find,
    Get,
    Look,
    Pools,
    Put,
    Size,
    Ticketed,
)
from .memory_scripts import Call, Pool, Script, found, view
from .wakeups import Wakeups

logger = logging.getLogger("cachify_tasks")

KEEP: Final = 86_400_000_000  # µs that a lease which no script has noticed outlives its deadline, as keys in Redis do
PURGE_EVERY: Final = 256  # commands at least between two looks for what has had its time

_EPOCH: Final = time.time_ns() // 1000 - time.monotonic_ns() // 1000


def _server_time() -> int:
    """Microseconds since the epoch, by a clock that nobody sets: this store's server is this process."""
    return _EPOCH + time.monotonic_ns() // 1000


class MemoryStore:
    """Slots and cached values in this process; for tests, and for programs that are one process.

    Args:
        clock: the time in microseconds; tests pass one that they move.
    """

    shown = "memory"
    local = True  # answers at once: no thread, no loop, no outage

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock or _server_time
        self._lock = threading.RLock()
        self._pools: dict[str, Pool] = {}
        self._values: dict[str, tuple[bytes, int | None]] = {}
        self._claims: dict[str, int] = {}
        self._listeners: dict[str, Callable[[str, int], None]] = {}
        self._calls: list[Call] = []  # of waiters; made when nobody holds the lock
        self._until_purge = PURGE_EVERY
        self.wakeups = Wakeups("calls:{}".format, self.execute)
        self.listen(self.wakeups.channel, self.wakeups.notify)

    def execute(self, command: Command) -> Any:
        with self._lock:
            now = self._clock()
            self._until_purge -= 1
            if self._until_purge < 0:
                self._purge(now)
            answer = self._answer(command, now)
        if self._calls:
            self._call_waiters()
        return answer

    async def aexecute(self, command: Command) -> Any:
        return self.execute(command)

    def begin(self, command: Command) -> asyncio.Future[Any]:
        """The answer, which is there at once."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_result(self.execute(command))
        return answer

    def execute_many(self, commands: Sequence[Command]) -> list[Any]:
        return [self.execute(command) for command in commands]

    def listen(self, channel: str, callback: Callable[[str, int], None]) -> None:
        """Have each waiter of that channel called: callback(holder, token), in whichever thread reserved its slot."""
        self._listeners[channel] = callback

    def unlisten(self, channel: str) -> None:
        self._listeners.pop(channel, None)

    def _call_waiters(self) -> None:
        while self._calls:
            try:
                channel, holder, token = self._calls.pop(0)
            except IndexError:  # another thread has made the last call
                return
            callback = self._listeners.get(channel)
            try:
                if callback is not None:
                    callback(holder, token)
            except Exception:  # who reserved the slot has done nothing wrong
                logger.exception("a waiter for a slot could not be called: %r on %r", holder, channel)

    def eviction(self) -> str:
        """Nothing is evicted."""
        return "noeviction"

    def close(self) -> None:
        """Nothing is open; for symmetry with other stores."""

    async def aclose(self) -> None:
        """Nothing is open; for symmetry with other stores."""

    def reset_after_fork(self) -> None:
        """In the child: who waits and listens is the parent's."""
        self._lock = threading.RLock()
        self._listeners, self._calls = {}, []
        self.wakeups.renew()
        self.listen(self.wakeups.channel, self.wakeups.notify)

    def _answer(self, command: Command, now: int) -> Any:
        match command:
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
            case Ticketed():
                return sorted(name for name, pool in self._pools.items() if pool.tickets)
            case Due():
                return sorted(name for name, pool in self._pools.items() if pool.tickets and pool.due <= now)
            case Claim(name, ttl_ms):
                free = self._claims.get(name, 0) <= now
                if free:
                    self._claims[name] = now + ttl_ms * 1000
                return free
            case Find(name, tasks):
                return found(self._pool(name), tasks)
            case Size(name):
                return sum(slot.deadline >= now for slot in self._pool(name).slots.values())
            case Look(name):
                return view(name, self._pool(name), now)
            case _:
                return Script(self._pools.setdefault(command.pool, Pool()), now, self._calls).run(command)

    def _pool(self, name: str) -> Pool:
        return self._pools.get(name) or Pool()

    def _purge(self, now: int) -> None:
        """Forget what nobody may ask for again; and again after as many commands as there are things that stay."""
        for key in [k for k, (_, until) in self._values.items() if until is not None and until <= now]:
            del self._values[key]
        stay = len(self._values)
        for name, pool in list(self._pools.items()):
            for holder in [h for h, last in pool.done.items() if last.until <= now]:
                del pool.done[holder]
            for holder in [h for h, s in pool.slots.items() if s.deadline + KEEP < now and h not in pool.tickets]:
                del pool.slots[holder]
            if pool.idle:
                del self._pools[name]
            else:
                stay += 1 + len(pool.done) + len(pool.slots)
        self._until_purge = max(PURGE_EVERY, stay)
