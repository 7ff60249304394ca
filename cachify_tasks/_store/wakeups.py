"""Bells: how a call or coroutine that waits in a pool's queue learns that a slot has been reserved for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary


class Wakeup:
    """Wakes one waiter, which waits in its thread or in its event loop; rung by any thread.

    Rung while nobody waits, it ends the next waiting at once.
    """

    __slots__ = ("__weakref__", "_future", "_silent", "_wakeups")

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups
        self._silent = threading.Lock()  # not an Event: a signal in the middle of its `wait` breaks it
        self._silent.acquire()
        self._future: asyncio.Future[None] | None = None

    @property
    def channel(self) -> str:
        return self._wakeups.channel

    @property
    def listening(self) -> bool:
        """Would a call be heard now?"""
        return self._wakeups.listening

    def notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has been rung already
            self._silent.release()  # first: who begins to wait puts its future first and looks at this then
        future = self._future
        if future is not None:
            with contextlib.suppress(RuntimeError):  # its event loop has been closed: nobody waits there
                future.get_loop().call_soon_threadsafe(_settle, future)

    def wait(self, seconds: float) -> None:
        """Return when it is rung, or then."""
        self._silent.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))

    async def await_notified(self, seconds: float) -> None:
        """`wait` for code in an event loop."""
        loop = asyncio.get_running_loop()
        self._future = future = loop.create_future()
        try:
            if self._silent.locked():
                timer = loop.call_later(seconds, _settle, future)
                try:
                    await future
                finally:
                    timer.cancel()
        finally:
            self._future = None
        self._silent.acquire(blocking=False)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Wakeups:
    """The bells of one store in this process, by the holders that wait; all are rung over one channel.

    They are known weakly: a waiter that is gone, however it went, has none.
    """

    listening = True

    def __init__(self, named: Callable[[str], str], execute: Callable[[Any], Any]) -> None:
        self._named, self._execute = named, execute
        self.renew()

    def renew(self) -> None:
        """Nobody waits any more, and the channel is another one: after a fork the waiters are the parent's."""
        self.channel = self._named(f"{os.getpid():x}-{os.urandom(6).hex()}")
        self._lock = threading.RLock()  # a collected coroutine can come in the middle
        self._wakeups: WeakValueDictionary[str, Wakeup] = WeakValueDictionary()

    def wakeup(self, holder: str) -> Wakeup:
        """A bell for one who is going to wait."""
        wakeup = Wakeup(self)
        with self._lock:
            self._wakeups[holder] = wakeup
        return wakeup

    def notify(self, holder: str, token: int = 0) -> None:
        wakeup = self._wakeups.get(holder)
        if wakeup is not None:
            wakeup.notify()

    def notify_all(self) -> None:
        """Have all waiters ask again: a call may have been lost."""
        with self._lock:
            wakeups = list(self._wakeups.values())
        for wakeup in wakeups:
            wakeup.notify()

    def later(self, command: Any) -> None:
        """Do a command for a waiter that can do none any more."""
        self._execute(command)
