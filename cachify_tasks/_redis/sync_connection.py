"""The short way to a server: packed bytes over a connection of a redis-py pool.

`Redis.execute_command` costs more than the trip's own share of a script's time (options, metrics, packing argument by
argument). All commands here can be sent twice, so what is left of it is a small loop that tries again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import redis
import redis.asyncio
from redis import exceptions

LOST: Final = exceptions.ConnectionError, exceptions.TimeoutError
DENIED: Final = exceptions.AuthenticationError, exceptions.AuthorizationError
PAUSES: Final = 0.02, 0.1  # seconds before the second and the third try


def packed(args: tuple[Any, ...]) -> bytes:
    """The arguments of a command as they go over the wire (RESP bulk strings)."""
    parts = []
    for arg in args:
        value = arg.encode() if type(arg) is str else b"%d" % arg if type(arg) is int else arg
        parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(parts)


def direct(client: Any) -> bool:
    """Does this client work by a plain pool of connections? A cluster's does not, nor one bound to a connection."""
    plain = isinstance(client, redis.Redis | redis.asyncio.Redis)
    return plain and getattr(client, "connection", None) is None and not getattr(client, "single_connection_client", 0)


class Wire:
    """Sends packed commands by connections of a synchronous client's making, which it keeps.

    A connection that has gone bad while it was idle is found by using it: then the command is sent again.
    """

    def __init__(self, client: Any) -> None:
        self._make = client.connection_pool.make_connection
        self._idle: deque[Any] = deque()

    def call(self, data: bytes, replies: int = 1, again: Callable[[], bytes] | None = None) -> list[Any]:
        """Send commands in one write; the answer to each is its value, or the error that the server gave.

        Args:
            again: gives what is sent in place of `data` from the second try on.

        Raises:
            RedisError: the connection failed three times, or no reply came twice; each command may have run or not.
        """
        for pause in PAUSES:
            try:
                return self._once(data, replies)
            except DENIED:
                raise
            except exceptions.TimeoutError:  # the caller has waited long: once more, for a reply that was lost
                break
            except LOST:  # the others are most likely as old and as bad: more of them than there are tries
                self._hang_up()
                time.sleep(pause)
                data = again() if again else data
        return self._once(again() if again else data, replies)

    def _hang_up(self) -> None:
        for _ in range(len(self._idle)):
            with suppress(IndexError):  # other threads take some
                connection = self._idle.popleft()
                connection.disconnect()
                self._idle.append(connection)

    def _once(self, data: bytes, replies: int) -> list[Any]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._make()
        try:
            connection.send_packed_command((data,))
            answers = [_read(connection) for _ in range(replies)]
        except BaseException:
            connection.disconnect()  # what it would say next is the answer to something else
            self._idle.appendleft(connection)  # it connects when it is used again
            raise
        self._idle.append(connection)
        return answers

    def close(self) -> None:
        while self._idle:
            self._idle.pop().disconnect()

    def reset_after_fork(self) -> None:
        """In the child: the connections are the parent's."""
        self._idle = deque()


def _read(connection: Any) -> Any:
    try:
        return connection.read_response()
    except exceptions.ResponseError as error:
        return error
