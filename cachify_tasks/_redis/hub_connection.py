"""The way to a server for event loops that watch file descriptors, such as that of a Celery worker.

Commands are written at once, and nobody waits. The callback of a batch is called when the loop has seen its replies.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from select import POLLIN, poll
from typing import Any, Protocol

from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from .._core.commands import ScriptCommand, resent
from ..errors import CachifyStoreError
from .pipeline import Pipeline

LOST = exceptions.RedisError, OSError
OnAnswers = Callable[[list[Any] | CachifyStoreError], None]


class Codec(Protocol):
    """Turns a store's commands into bytes, and replies into answers."""

    def packed(self, commands: Sequence[ScriptCommand]) -> bytes: ...
    def answers(self, commands: Sequence[ScriptCommand], replies: Sequence[Any]) -> list[Any]: ...


class HubStore(Protocol):
    """The store whose commands a `HubConnection` sends."""

    @property
    def codec(self) -> Codec: ...

    def make_connection(self) -> Any:
        """A redis-py connection for the caller alone, not connected yet."""

    def failure(self, error: Exception) -> CachifyStoreError:
        """The error that says why there are no answers."""


@dataclass(slots=True)
class _Batch:
    """Commands that were written at once. resent: they are under way for the second time."""

    size: int
    commands: Sequence[ScriptCommand]
    on_answers: OnAnswers
    sent: float
    resent: bool = False


class HubConnection:
    """One connection to a store's server. It is made at the first use, and anew when it breaks.

    Commands whose replies are lost with a connection are sent once more over the next one, at once: the loop stands
    still meanwhile. All of it belongs to the thread of the event loop.

    Args:
        watch, unwatch: begin and end to call `readable` when this file descriptor can be read.
    """

    def __init__(self, store: HubStore, watch: Callable[[int], None], unwatch: Callable[[int], None]) -> None:
        self._store = store
        self._watch = watch
        self._unwatch = unwatch
        self._connection: Any = None
        self._fd = -1
        self._pipeline: Pipeline[_Batch] = Pipeline()

    def send(self, commands: Sequence[ScriptCommand], on_answers: OnAnswers) -> None:
        """Send commands; the callback gets their answers, each a value or an error, or why there are none."""
        batch = _Batch(len(commands), commands, on_answers, time.monotonic())
        self._pipeline.in_flight.append(batch)
        try:
            self._write(batch)
        except LOST as error:
            self._on_broken(error)

    def _write(self, batch: _Batch) -> None:
        if self._fd < 0:
            self._connect()
        # Not by the connection's own method: where that fails it closes the socket, which is still watched. A process
        # forked meanwhile has it open too, so a poller would go on to report it, by a number that is soon another's.
        self._connection._sock.sendall(self._store.codec.packed(batch.commands))

    def _connect(self) -> None:
        self._connection = connection = self._store.make_connection()
        connection.retry = Retry(NoBackoff(), 0)  # the loop stands still meanwhile
        connection.connect()
        self._fd = connection._sock.fileno()
        self._watch(self._fd)

    def readable(self) -> None:
        """The loop has seen something to read, or the end of the connection, or so it says."""
        if self._fd >= 0 and self._can_read():
            self._receive()

    def _receive(self) -> None:
        """Read what there is, and call the callbacks of the batches that it answers.

        They are called at the end: one of them may send, or hang up.
        """
        answered: list[tuple[_Batch, list[Any]]] = []
        error: Exception | None = None
        try:
            for data in self._read():
                for pair in self._pipeline.feed(data):
                    answered.append(pair)  # noqa: PERF402  # those before an error count
        except LOST as found:
            error = found
        for batch, replies in answered:
            batch.on_answers(self._store.codec.answers(batch.commands, replies))
        if isinstance(error, exceptions.InvalidResponse) and not self._pipeline.in_flight:
            self.hang_up()  # more than was asked for: the next batch must not take it for its own
        elif error is not None:
            self._on_broken(error)

    def _read(self) -> Iterator[bytes]:
        sock = self._connection._sock
        while True:
            data = sock.recv(65536)
            if not data:
                raise exceptions.ConnectionError("the connection was closed by the server")
            yield data
            pending = getattr(sock, "pending", None)  # TLS: what has been read from the kernel and not by us
            if pending is None or not pending():
                return

    def check_overdue(self) -> None:
        """To be called now and then: gives up a connection on which a reply is overdue.

        A process that was stopped meanwhile finds the reply there, unread.
        """
        if self._pipeline.in_flight:
            self.readable()
        if self._pipeline.in_flight and self._fd >= 0:
            timeout = self._connection.socket_timeout
            left = self._pipeline.left(time.monotonic(), timeout)
            if left is not None and left < 0:
                self._on_broken(exceptions.TimeoutError(f"no reply in {timeout} s"))

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
        while self._pipeline.in_flight:
            if self._fd < 0:
                self._on_broken(exceptions.ConnectionError("the connection was lost"))
            else:
                self._receive()

    def _on_broken(self, error: Exception) -> None:
        """Hang up, and send what is in flight once more: all of it, in its order, or nothing of it, where some was sent
        twice already or the connection could not be made.
        """
        in_flight, self._pipeline.in_flight = self._pipeline.in_flight, deque()
        once_more = self._fd >= 0 and not any(batch.resent for batch in in_flight)
        self.hang_up()
        if once_more:
            try:
                for batch in in_flight:
                    batch.commands = [resent(command) for command in batch.commands]
                    batch.resent, batch.sent = True, time.monotonic()
                    self._write(batch)
            except LOST as second:
                self.hang_up()
                error = second
            else:
                self._pipeline.in_flight = in_flight
                return
        for batch in in_flight:
            batch.on_answers(self._store.failure(error))

    def hang_up(self) -> None:
        """Close the connection; it is made anew when it is needed."""
        self._pipeline.restart()
        if self._fd >= 0:
            self._unwatch(self._fd)
            self._fd = -1
        if self._connection is not None:
            self._connection.disconnect()
