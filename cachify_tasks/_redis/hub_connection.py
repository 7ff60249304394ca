"""The way to a server for event loops that watch file descriptors, as that of a Celery worker does.

Commands are written at once; nobody waits. What they are answered is told when the loop has seen something to read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from select import POLLIN, poll
from typing import Any

from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from .._core.commands import Command, resent
from ..errors import CachifyStoreError
from .resp import Replies
from .retry import another_server, means_another_server

Then = Callable[[list[Any] | CachifyStoreError], None]


@dataclass(slots=True)
class _Batch:
    commands: Sequence[Command]
    then: Then
    sent: float
    again: bool = False  # it is on its way for the second time


class HubConnection:
    """One connection of a store's making; it is made at the first use, and anew when it breaks.

    Commands whose replies are lost with a connection are sent once more over the next one: they answer the same.

    Args:
        store: a `RedisStore`.
        watch, unwatch: begin and end to call `readable` when this file descriptor can be read.
    """

    def __init__(self, store: Any, watch: Callable[[int], None], unwatch: Callable[[int], None]) -> None:
        self._store, self._watch, self._unwatch = store, watch, unwatch
        self._connection: Any = None
        self._fd = -1
        self._waiting: deque[_Batch] = deque()
        self._parser, self._replies = Replies(), list[Any]()

    def send(self, commands: Sequence[Command], then: Then) -> None:
        """Send commands; `then` gets their answers, each a value or an error, or why there are none."""
        self._waiting.append(_Batch(commands, then, time.monotonic()))
        try:
            self._write(commands)
        except (exceptions.RedisError, OSError) as error:
            self._broken(error)

    def _write(self, commands: Sequence[Command]) -> None:
        if self._fd < 0:
            self._connect()
        # Not by the connection's own method: where that fails it closes the socket, which is still watched. A process
        # forked meanwhile has it open too, so a poller would go on to tell of it, by a number that is soon another's.
        self._connection._sock.sendall(self._store.packed(commands))

    def _connect(self) -> None:
        self._connection = connection = self._store.make_connection()
        connection.retry = Retry(NoBackoff(), 0)  # the loop stands still meanwhile
        connection.connect()
        self._parser, self._replies = Replies(), []
        self._fd = connection._sock.fileno()
        self._watch(self._fd)

    def readable(self) -> None:
        """The loop has seen something to read, or the end of the connection, or so it says."""
        if self._fd >= 0 and self._can_read():
            self._receive()

    def _receive(self) -> None:
        try:
            self._read()
        except (exceptions.RedisError, OSError) as error:
            self._broken(error)

    def _read(self) -> None:
        sock = self._connection._sock
        while True:
            data = sock.recv(65536)
            if not data:
                raise exceptions.ConnectionError("the connection was closed by the server")
            self._replies += self._parser.feed(data)
            pending = getattr(sock, "pending", None)  # TLS: what has been read from the kernel and not by us
            if pending is None or not pending():
                break
        answered = []
        elsewhere = None
        while self._waiting and len(self._replies) >= (count := len(self._waiting[0].commands)):
            replies = self._replies[:count]
            elsewhere = next((reply for reply in replies if means_another_server(reply)), None)
            if elsewhere is not None:
                break
            answered.append((self._waiting.popleft(), replies))
            del self._replies[:count]
        if self._replies and not self._waiting:  # more than was asked: the next batch must not take them for its own
            self.hang_up()
        for batch, replies in answered:
            batch.then(self._store.answers(batch.commands, replies))
        if elsewhere is not None:
            raise another_server(elsewhere)

    def check_overdue(self) -> None:
        """To be called now and then: gives up a connection on which a reply is overdue.

        A process that was stopped meanwhile finds the reply there, unread.
        """
        if self._waiting:
            self.readable()
        if self._waiting and self._fd >= 0:
            limit = self._connection.socket_timeout
            if limit is not None and time.monotonic() - self._waiting[0].sent > limit:
                self._broken(exceptions.TimeoutError(f"no reply in {limit} s"))

    def _can_read(self) -> bool:
        ready = poll()
        ready.register(self._fd, POLLIN)
        return bool(ready.poll(0))

    def watch_again(self) -> None:
        """The loop has forgotten what it watched."""
        if self._fd >= 0:
            self._watch(self._fd)

    def drain(self) -> None:
        """Wait for all answers: the loop will not turn again."""
        while self._waiting:
            if self._fd < 0:
                self._broken(exceptions.ConnectionError("the connection was lost"))
            else:
                self._receive()

    def _broken(self, error: Exception) -> None:
        """Hang up, and send what waits once more: all of it, in its order, or nothing of it, where some was sent twice
        already or the connection could not be made.
        """
        once_more = self._fd >= 0 and not any(batch.again for batch in self._waiting)
        self.hang_up()
        waiting, self._waiting = self._waiting, deque()
        if once_more:
            try:
                for batch in waiting:
                    batch.commands = [resent(command) for command in batch.commands]
                    self._write(batch.commands)
                    batch.again, batch.sent = True, time.monotonic()
            except (exceptions.RedisError, OSError) as second:
                self.hang_up()
                error = second
            else:
                self._waiting = waiting
                return
        for batch in waiting:
            batch.then(self._store.failure(error))

    def hang_up(self) -> None:
        """Close the connection; it is made anew when it is needed."""
        if self._fd >= 0:
            self._unwatch(self._fd)
            self._fd = -1
        if self._connection is not None:
            self._connection.disconnect()
