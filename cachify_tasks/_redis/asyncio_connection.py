"""The asynchronous way to a server: one connection for an event loop, on which commands do not wait for each other.

A command is written at once and its answer is a future: no task, no lock and no timer is made for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from redis import exceptions

from .clients import new_connection
from .resp import Replies
from .retry import DENIED, LOST, PAUSES, another_server, means_another_server

T = TypeVar("T")
Then = Callable[[Any], None]  # takes the reply; an error, the server's or the connection's, is a value


class Answer(asyncio.Future[T]):
    """A future that cannot be cancelled: what it waits for has been sent. Its waiter is told of the cancellation when
    the answer is there.
    """

    def cancel(self, msg: Any | None = None) -> bool:
        return False

    def tell(self, value: T) -> None:
        """Settle it, unless it has been told just before a signal struck."""
        if not self.done():
            self.set_result(value)


class Line(asyncio.Protocol):
    """A connection that redis-py has made and greeted, from then on ours."""

    def __init__(self, writer: asyncio.StreamWriter, seconds: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = writer  # kept: since Python 3.12 it closes its transport when nobody refers to it
        self._transport: Any = writer.transport
        self._seconds = seconds
        self._replies = Replies()
        self._waiting: deque[tuple[Then, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.up = not self._transport.is_closing()
        self._transport.set_protocol(self)

    def send(self, data: bytes, then: Then) -> None:
        try:
            self._waiting.append((then, self._loop.time()))
            self._transport.write(data)
            if self._timer is None and self._seconds is not None:
                self._timer = self._loop.call_later(self._seconds, self._look)
        except BaseException:  # a signal: nobody knows how much of it has been sent
            self.fail(exceptions.ConnectionError("sending was interrupted"))
            raise

    def data_received(self, data: bytes) -> None:
        try:
            for reply in self._replies.feed(data):
                if isinstance(reply, Exception) and means_another_server(reply):
                    self.fail(another_server(reply))
                    return
                self._waiting[0][0](reply)
                self._waiting.popleft()  # not before: where telling it fails, it is still one of those to be told
        except Exception as error:  # noqa: BLE001  # more than was asked for, or what is no answer to it
            self.fail(exceptions.ConnectionError(f"the server's replies make no sense: {error!r}"))
        except BaseException:  # a signal: nobody knows whose the next reply is
            self.fail(exceptions.ConnectionError("reading was interrupted"))
            raise

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(exceptions.ConnectionError(f"the connection was lost: {exc or 'closed by the server'}"))

    def _look(self) -> None:
        """One timer for all that wait: they are answered in their order."""
        self._timer = None
        if not self._waiting:
            return
        assert self._seconds is not None
        left = self._waiting[0][1] + self._seconds - self._loop.time()
        if left <= 0:
            self.fail(exceptions.TimeoutError(f"no reply in {self._seconds} s"))
        else:
            self._timer = self._loop.call_later(left, self._look)

    def fail(self, error: Exception) -> None:
        """Hang up; who still waits gets the error."""
        self.up = False
        self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, deque()
        for then, _ in waiting:
            then(error)


class AsyncWire:
    """Sends packed commands over one line of an asyncio client's making, which it makes anew when it breaks."""

    def __init__(self, client: Any) -> None:
        self._make = partial(new_connection, client)
        self._line: Line | None = None
        self._making: asyncio.Future[Line] | None = None

    def send(self, data: bytes, then: Then) -> bool:
        """Send now, if there is a line; `then` gets the reply, or what went wrong. False: there is none."""
        if self._line is None or not self._line.up:
            return False
        self._line.send(data, then)
        return True

    async def call(self, data: bytes, *, waited: bool = False) -> Any:
        """Send a command; its answer is a value, or the error that the server gave.

        Args:
            waited: it has been sent before, and no reply came in time.

        Raises:
            RedisError: the connection failed three times, or no reply came twice; the command may have run or not.
        """
        for pause in () if waited else PAUSES:
            try:
                return await self._once(data)
            except DENIED:
                raise
            except exceptions.TimeoutError:  # the caller has waited long: once more, for a reply that was lost
                break
            except LOST:
                await asyncio.sleep(pause)
        return await self._once(data)

    async def _once(self, data: bytes) -> Any:
        answer: Answer[Any] = Answer()
        if not self.send(data, answer.tell):
            (await self._connected()).send(data, answer.tell)
        reply = await answer
        if isinstance(reply, LOST):
            raise reply
        return reply

    async def _connected(self) -> Line:
        """The line, made by whoever comes first; the others get it, or the same error."""
        if self._line is not None and self._line.up:
            return self._line
        making = self._making
        if making is None:
            making = self._making = asyncio.ensure_future(self._made())
            making.add_done_callback(self._took)
        await asyncio.wait([making])
        if making.cancelled():  # by `close`: nobody has cancelled who waits for it
            raise exceptions.ConnectionError("the store was closed")
        return making.result()

    def _took(self, making: asyncio.Future[Line]) -> None:
        line = None if making.cancelled() or making.exception() is not None else making.result()
        if self._making is making:
            self._making, self._line = None, line
        elif line is not None:  # closed meanwhile
            line.fail(exceptions.ConnectionError("the store was closed"))

    async def _made(self) -> Line:
        connection = self._make()
        await connection.connect()
        line = Line(connection._writer, connection.socket_timeout)
        connection._reader = connection._writer = None  # it has nothing to close any more
        return line

    def close(self) -> None:
        if self._making is not None:
            self._making.cancel()
            self._making = None
        if self._line is not None and self._line.up:
            self._line.fail(exceptions.ConnectionError("the store was closed"))
        self._line = None
