"""The listener: one daemon thread a process and store that hears the calls for its waiters, over one connection.

It is there while somebody waits, in threads or event loops. A call is only a hint to ask again, so it may be lost: with
a connection, or with a server that is replaced. Then all waiters ask again as soon as there is a connection again.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis import exceptions

from .._log_throttle import LogThrottle
from ..errors import CachifyStoreError
from .wakeups import Wakeup, Wakeups

TICK: Final = 1.0  # seconds between two looks at what is not told by the server
IDLE: Final = 5.0  # seconds without a waiter after which the thread ends
SILENCE: Final = 10.0  # seconds without a word after which the server is asked whether it is there
PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between two tries to connect: at first, at most
KEPT: Final = 60.0  # seconds for which a command is tried that a waiter has left behind


class Listener(Wakeups):
    """Rings the bells of this process for what is said on its channel in the server.

    Args:
        connect: makes a redis-py connection, not connected yet.
        named: the channel for a name.
        execute: does a command.
    """

    def __init__(
        self, connect: Callable[[], Any], named: Callable[[str], str], execute: Callable[[Any], Any], shown: str
    ) -> None:
        self._connect, self._shown = connect, shown
        super().__init__(named, execute)

    def renew(self) -> None:
        super().renew()
        self.listening = False
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._left: deque[tuple[Any, float]] = deque()
        self._log_throttle = LogThrottle()

    def wakeup(self, holder: str) -> Wakeup:
        wakeup = super().wakeup(holder)
        self._start()
        return wakeup

    def later(self, command: Any) -> None:
        self._left.append((command, time.monotonic() + KEPT))
        self._start()

    def stop(self) -> None:
        """End the thread; it is started again by the next waiter. Those there are ask now and then, uncalled."""
        with self._lock:
            self._thread, self.listening = None, False
            connection = self._connection
        with contextlib.suppress(OSError, AttributeError):  # AttributeError: it is not connected
            connection._sock.shutdown(socket.SHUT_RDWR)  # ends its waiting for a call

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="cachify-listener", daemon=True)
                thread.start()  # it begins by taking the lock
                self._thread = thread

    def _ours(self) -> bool:
        with self._lock:
            return self._thread is threading.current_thread()

    def _run(self) -> None:
        pause = PAUSE
        while self._ours():
            connection = None
            try:
                connection = self._connect()
                self._listen(connection)
                pause = PAUSE
            except Exception as error:  # noqa: BLE001  # whatever a connection, or making it, can raise: tried again
                if self.listening:
                    pause = PAUSE
                elif self._wakeups and self._ours():  # not stopped
                    self._log_throttle.throttled(
                        "lost", "%s cannot be listened to, waiters ask now and then: %r", self._shown, error
                    )
            finally:
                if self._ours():
                    self.listening, self._connection = False, None
                if connection is not None:
                    connection.disconnect()
            if self._ends():
                return
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _listen(self, connection: Any) -> None:
        """Hear calls until nobody has waited for a while; a lost connection is an error."""
        connection.connect()
        connection.send_command("SUBSCRIBE", self.channel)
        with self._lock:
            if self._thread is threading.current_thread():
                self._connection = connection
        heard = used = time.monotonic()
        asked = False
        while self._ours():
            if connection.can_read(timeout=TICK):
                self._hear(connection.read_response(push_request=True))
                heard, asked = time.monotonic(), False
            now = time.monotonic()
            if self._left:
                self._do_left(now)
            if self._wakeups or self._left:
                used = now
            elif now - used > IDLE:
                return
            if now - heard > 2 * SILENCE:
                raise exceptions.TimeoutError(f"the server has said nothing for {2 * SILENCE:g} s")
            if now - heard > SILENCE and not asked:
                connection.send_command("PING")
                asked = True

    def _hear(self, said: Any) -> None:
        kind, *rest = said if isinstance(said, list) else [said]
        if kind == b"message":
            holder, _, token = rest[1].decode().rpartition(" ")
            self.notify(holder, int(token))
        elif kind == b"subscribe":
            if self._ours():
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
