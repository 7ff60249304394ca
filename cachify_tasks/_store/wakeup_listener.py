"""The listener: one daemon thread for a process and its store. It receives the wakeups of the process's waiters.

It runs while somebody waits, in threads or event loops, on one connection. A wakeup only means "ask again", so it may
be lost, with a connection or with a server that is replaced: all waiters ask again as soon as there is another one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis import exceptions

from .._core.commands import Release
from .._log_throttle import LogThrottle
from ..errors import CachifyStoreError
from .wakeups import Wakeup, Wakeups

TICK: Final = 1.0  # seconds between two looks at waiters, commands left behind and `stop`
IDLE: Final = 5.0  # seconds without a waiter after which the thread ends
SILENCE: Final = 10.0  # seconds without a message after which the server is pinged
PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between two tries to connect: at first, at most
KEPT: Final = 60.0  # seconds for which a command that a waiter has left behind is tried


class Listener(Wakeups):
    """Wakes the waiters of this process by the messages on its channel in the server.

    The thread owns its connection. `_lock` guards which thread is the listener.

    Args:
        connect: makes a redis-py connection, not connected yet.
        channel_of: the channel for a name.
        execute: runs a command.
        shown: where the store is, for people.
        clock: in seconds.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        channel_of: Callable[[str], str],
        execute: Callable[[Release], object],
        shown: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._shown = shown
        self._clock = clock
        super().__init__(channel_of, execute)

    def renew(self) -> None:
        super().renew()
        self.listening = False
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._left: deque[tuple[Release, float]] = deque()  # with the time until which each is tried
        self._log_throttle = LogThrottle()

    def wakeup(self, holder: str) -> Wakeup:
        wakeup = super().wakeup(holder)
        self._start()
        return wakeup

    def later(self, command: Release) -> None:
        self._left.append((command, self._clock() + KEPT))
        self._start()

    def stop(self) -> None:
        """End the thread. The next waiter starts another one; until then waiters ask now and then."""
        with self._lock:
            self._thread, self.listening = None, False
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()  # shuts the socket down, which wakes the thread that reads from it

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="cachify-listener", daemon=True)
                thread.start()  # it begins by taking the lock
                self._thread = thread

    def _is_current(self) -> bool:
        with self._lock:
            return self._thread is threading.current_thread()

    def _run(self) -> None:
        pause = PAUSE
        while self._is_current():
            connection = None
            try:
                connection = self._connect()
                self._listen(connection)
                pause = PAUSE
            except Exception as error:  # noqa: BLE001  # whatever a connection, or making it, can raise: tried again
                if self.listening:
                    pause = PAUSE
                elif self._wakeups and self._is_current():  # not stopped
                    self._log_throttle.throttled(
                        "lost", "%s: no wakeups from the store, so waiters ask now and then: %r", self._shown, error
                    )
            finally:
                if self._is_current():
                    self.listening, self._connection = False, None
                if connection is not None:
                    connection.disconnect()
            if self._ends():
                return
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _listen(self, connection: Any) -> None:
        """Receive messages until nobody has waited for a while; a lost connection is an error."""
        connection.connect()
        connection.send_command("SUBSCRIBE", self.channel)
        with self._lock:
            if self._thread is threading.current_thread():
                self._connection = connection
        received = used = self._clock()
        pinged = False
        while self._is_current():
            if connection.can_read(timeout=TICK):
                self._on_message(connection.read_response(push_request=True))
                received, pinged = self._clock(), False
            now = self._clock()
            if self._left:
                self._do_left(now)
            if self._wakeups or self._left:
                used = now
            elif now - used > IDLE:
                return
            if now - received > 2 * SILENCE:
                raise exceptions.TimeoutError(f"the server has sent nothing for {2 * SILENCE:g} s")
            if now - received > SILENCE and not pinged:
                connection.send_command("PING")
                pinged = True

    def _on_message(self, message: object) -> None:
        match message:
            case [b"message", _, bytes(data)]:
                holder, _, token = data.decode().rpartition(" ")
                self.notify(holder, int(token))
            case [b"subscribe", *_]:
                if self._is_current():
                    self.listening = True
                self.notify_all()

    def _ends(self) -> bool:
        """Nobody waits: let the next waiter start another thread."""
        with self._lock:
            if self._thread is not threading.current_thread():
                return True
            if self._wakeups or self._left:
                return False
            self._thread = None
            return True

    def _do_left(self, now: float) -> None:
        for _ in range(len(self._left)):
            command, until = self._left.popleft()
            try:
                self._execute(command)
            except CachifyStoreError:
                if now < until:
                    self._left.append((command, until))
                return
