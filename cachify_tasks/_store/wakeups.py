"""Wakeups: how a function that waits in a pool's queue learns that a slot was reserved for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from weakref import WeakValueDictionary

from .._core.commands import Release


class Wakeup:
    """Wakes one waiter, which waits in its thread or in its event loop. Any thread may notify it.

    A notification that comes before the waiter begins to wait ends that wait at once.
    """

    __slots__ = ("__weakref__", "_future", "_quiet", "_wakeups")

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups
        self._quiet = threading.Lock()  # not an Event: a signal in the middle of its `wait` breaks it
        self._quiet.acquire()
        self._future: asyncio.Future[None] | None = None

    @property
    def channel(self) -> str:
        return self._wakeups.channel

    @property
    def listening(self) -> bool:
        """Would a notification arrive now?"""
        return self._wakeups.listening

    def notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # it was notified already
            self._quiet.release()  # before `_future` is read: a waiter sets its future and then looks at the lock
        future = self._future
        if future is not None:
            with contextlib.suppress(RuntimeError):  # its event loop has been closed: nobody waits there
                future.get_loop().call_soon_threadsafe(_settle, future)

    def wait(self, seconds: float) -> None:
        """Return when it is notified, or after so many seconds."""
        self._quiet.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))

    async def await_notified(self, seconds: float) -> None:
        """`wait` for code in an event loop."""
        loop = asyncio.get_running_loop()
        self._future = future = loop.create_future()
        try:
            if self._quiet.locked():
                timer = loop.call_later(seconds, _settle, future)
                try:
                    await future
                finally:
                    timer.cancel()
        finally:
            self._future = None
        self._quiet.acquire(blocking=False)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Wakeups:
    """The waiters of one store in this process, by the names of their tickets. One channel serves all.

    They are known weakly: a waiter that is gone, however it went, is forgotten.
    """

    listening = True

    def __init__(self, channel_of: Callable[[str], str], execute: Callable[[Release], object]) -> None:
        self._channel_of, self._execute = channel_of, execute
        self.renew()

    def renew(self) -> None:
        """Nobody waits any more, and the channel is another one: after a fork the waiters are the parent's."""
        self.channel = self._channel_of(f"{os.getpid():x}-{os.urandom(6).hex()}")
        self._lock = threading.RLock()  # a collected coroutine can come in the middle
        self._wakeups: WeakValueDictionary[str, Wakeup] = WeakValueDictionary()

    def wakeup(self, holder: str) -> Wakeup:
        """For a waiter that is going to wait under this name."""
        wakeup = Wakeup(self)
        with self._lock:
            self._wakeups[holder] = wakeup
        return wakeup

    def notify(self, holder: str, token: int = 0) -> None:
        wakeup = self._wakeups.get(holder)
        if wakeup is not None:
            wakeup.notify()

    def notify_all(self) -> None:
        """Have all waiters ask again: a notification may have been lost."""
        with self._lock:
            wakeups = list(self._wakeups.values())
        for wakeup in wakeups:
            wakeup.notify()

    def later(self, command: Release) -> None:
        """Run a command for a waiter that cannot wait for the answer any more."""
        self._execute(command)
