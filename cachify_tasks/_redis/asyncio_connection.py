"""The asynchronous way to a server: one connection for an event loop, on which commands do not wait for each other.

A command's answer is a future: no task, no lock and no timer is made for it. A command is written at once when nothing
is under way; else with all others of the same loop iteration, since a write costs as much as all the rest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from redis import exceptions

from .clients import new_connection
from .pipeline import Pipeline
from .retry import LOST, Tries

T = TypeVar("T")
OnReply = Callable[[Any], None]  # takes the reply; an error, the server's or the connection's, is a value


class Answer(asyncio.Future[T]):
    """A future whose value comes though its waiter is cancelled: the command was sent. Then another one gets it.

    Attributes:
        successor: gets the value in its place; None: it was not cancelled.
    """

    successor: Answer[T] | None = None

    def cancel(self, msg: object = None) -> bool:
        if self.done():
            return False
        self.successor = Answer(loop=self.get_loop())
        return super().cancel(msg)

    def newest(self) -> Answer[T]:
        """The one that gets the value."""
        answer = self
        while answer.successor is not None:
            answer = answer.successor
        return answer

    def settle(self, value: T) -> None:
        """Set the result, unless a signal struck just after it had been set."""
        newest = self.newest()
        if not newest.done():
            newest.set_result(value)


class _Command(NamedTuple):
    """One command that was written."""

    on_reply: OnReply
    sent: float
    size: int = 1


class LoopConnection(asyncio.Protocol):
    """A connection that redis-py has made and greeted, from then on ours.

    Args:
        timeout: seconds that a reply may take; None: any time.

    Attributes:
        usable: commands can be sent.
    """

    def __init__(self, writer: asyncio.StreamWriter, timeout: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = writer  # kept: since Python 3.12 it closes its transport when nobody refers to it
        self._transport = writer.transport
        self._timeout = timeout
        self._pipeline: Pipeline[_Command] = Pipeline()
        self._unwritten: list[bytes] = []  # written together, after what the loop does now
        self._timer: asyncio.TimerHandle | None = None
        self.usable = not self._transport.is_closing()
        self._transport.set_protocol(self)

    def send(self, data: bytes, on_reply: OnReply) -> None:
        try:
            alone = not self._pipeline.in_flight
            self._pipeline.in_flight.append(_Command(on_reply, self._loop.time()))
            if alone:
                self._transport.write(data)
            else:
                if not self._unwritten:
                    self._loop.call_soon(self._write)
                self._unwritten.append(data)
            if self._timer is None and self._timeout is not None:
                self._timer = self._loop.call_later(self._timeout, self._check_overdue)
        except BaseException:  # a signal: nobody knows how much of it has been sent
            self.fail(exceptions.ConnectionError("sending was interrupted"))
            raise

    def _write(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        try:
            self._transport.write(b"".join(unwritten))
        except BaseException:  # a signal, as in `send`
            self.fail(exceptions.ConnectionError("sending was interrupted"))
            raise

    def data_received(self, data: bytes) -> None:
        try:
            for command, (reply,) in self._pipeline.feed(data):
                command.on_reply(reply)
        except exceptions.ConnectionError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001  # more than was asked for, or what is no answer to it
            self.fail(exceptions.ConnectionError(f"the server's replies make no sense: {error!r}"))
        except BaseException:  # a signal: nobody knows whose the next reply is
            self.fail(exceptions.ConnectionError("reading was interrupted"))
            raise

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(exceptions.ConnectionError(f"the connection was lost: {exc or 'closed by the server'}"))

    def _check_overdue(self) -> None:
        """One timer for all that wait: they are answered in their order."""
        self._timer = None
        left = self._pipeline.left(self._loop.time(), self._timeout)
        if left is None:
            return
        if left <= 0:
            self.fail(exceptions.TimeoutError(f"no reply in {self._timeout} s"))
        else:
            self._timer = self._loop.call_later(left, self._check_overdue)

    def fail(self, error: Exception) -> None:
        """Hang up; whoever still waits gets the error."""
        self.usable = False
        self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        in_flight, self._pipeline.in_flight = self._pipeline.in_flight, deque()
        for command in in_flight:
            command.on_reply(error)


class AsyncSender:
    """Sends packed commands over one connection of an asyncio client's making, which it makes anew when it breaks."""

    def __init__(self, client: Any) -> None:
        self._make = partial(new_connection, client)
        self._connection: LoopConnection | None = None
        self._connecting: asyncio.Future[LoopConnection] | None = None

    def send(self, data: bytes, on_reply: OnReply) -> bool:
        """Send now, if there is a connection; the callback gets the reply, or what went wrong. False: there is none."""
        if self._connection is None or not self._connection.usable:
            return False
        self._connection.send(data, on_reply)
        return True

    async def call(self, data: bytes, *, timed_out: bool = False) -> Any:
        """Send a command; its answer is a value, or the error that the server gave.

        Args:
            timed_out: it has been sent before, and no reply came in time.

        Raises:
            RedisError: the connection was lost, or no reply came, more often than `Tries` allows; the command may have
                run or not.
        """
        tries = Tries(timed_out=timed_out)
        while True:
            try:
                return await self._once(data)
            except LOST as error:
                pause = tries.next_pause(error)
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    async def _once(self, data: bytes) -> Any:
        answer: Answer[Any] = Answer()
        if not self.send(data, answer.settle):
            (await self._connected()).send(data, answer.settle)
        reply = await answer
        if isinstance(reply, LOST):
            raise reply
        return reply

    async def _connected(self) -> LoopConnection:
        """The connection, made by whoever comes first; the others get it, or the same error."""
        if self._connection is not None and self._connection.usable:
            return self._connection
        connecting = self._connecting
        if connecting is None:
            connecting = self._connecting = asyncio.ensure_future(self._connect())
            connecting.add_done_callback(self._on_connected)
        await asyncio.wait([connecting])
        if connecting.cancelled():  # by `close`: nobody has cancelled whoever waits for it
            raise exceptions.ConnectionError("the store was closed")
        return connecting.result()

    def _on_connected(self, connecting: asyncio.Future[LoopConnection]) -> None:
        failed = connecting.cancelled() or connecting.exception() is not None
        connection = None if failed else connecting.result()
        if self._connecting is connecting:
            self._connecting, self._connection = None, connection
        elif connection is not None:  # closed meanwhile
            connection.fail(exceptions.ConnectionError("the store was closed"))

    async def _connect(self) -> LoopConnection:
        connection = self._make()
        await connection.connect()
        made = LoopConnection(connection._writer, connection.socket_timeout)
        connection._reader = connection._writer = None  # it has nothing to close any more
        return made

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None and self._connection.usable:
            self._connection.fail(exceptions.ConnectionError("the store was closed"))
        self._connection = None
