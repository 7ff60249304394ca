"""The short way to a server: packed bytes over a connection of a redis-py pool.

`Redis.execute_command` costs more than the trip's own share of a script's time (options, metrics, packing argument by
argument). All commands here can be sent twice, so what is left of it is a small loop that tries again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import redis
import redis.asyncio
from redis import exceptions

from .clients import new_connection
from .retry import LOST, Tries, another_server, means_another_server

IDLE_S: Final = 10.0  # a connection that was idle for longer is closed when another one is given back


def direct(client: Any) -> bool:
    """Does this client work by a plain pool of connections? A cluster's does not, nor one bound to a connection."""
    plain = isinstance(client, redis.Redis | redis.asyncio.Redis)
    return plain and getattr(client, "connection", None) is None and not getattr(client, "single_connection_client", 0)


class SyncSender:
    """Sends packed commands by connections of a synchronous client's making, which it keeps.

    A connection that has gone bad while it was idle is found by using it: then the command is sent again.
    """

    def __init__(self, client: Any) -> None:
        self._make = partial(new_connection, client)
        self._idle: deque[tuple[Any, float]] = deque()  # with the time since when; the last one is used first

    def call(self, data: bytes, replies: int = 1, again: Callable[[], bytes] | None = None) -> list[Any]:
        """Send commands in one write; the answer to each is its value, or the error that the server gave.

        Args:
            again: gives what is sent in place of `data` from the second try on.

        Raises:
            RedisError: the connection was lost, or no reply came, more often than `Tries` allows; each command may have
                run or not.
        """
        tries: Tries | None = None
        while True:
            try:
                return self._once(data, replies)
            except LOST as error:
                tries = tries or Tries()
                pause = tries.next_pause(error)
                if pause is None:
                    raise
                if pause:  # not a time-out: the others are most likely as old and as bad, and more than there are tries
                    self._hang_up()
                    time.sleep(pause)
                data = again() if again else data

    def _hang_up(self) -> None:
        for _ in range(len(self._idle)):
            with suppress(IndexError):  # other threads take some
                connection, since = self._idle.popleft()
                connection.disconnect()
                self._idle.append((connection, since))

    def _once(self, data: bytes, replies: int) -> list[Any]:
        try:
            connection, _ = self._idle.pop()
        except IndexError:
            connection = self._make()
        try:
            connection.send_packed_command((data,))
            answers = [_read(connection) for _ in range(replies)]
            for answer in answers:
                if isinstance(answer, Exception) and means_another_server(answer):
                    raise another_server(answer)
        except BaseException:
            connection.disconnect()  # what it would say next is the answer to something else
            self._idle.appendleft((connection, time.monotonic()))  # it connects when it is used again
            raise
        now = time.monotonic()
        self._idle.append((connection, now))
        if self._idle[0][1] < now - IDLE_S:
            self._close_oldest(now)
        return answers

    def _close_oldest(self, now: float) -> None:
        """More threads asked at once than do now: close the connection that was idle for longest."""
        with suppress(IndexError):  # other threads take some
            connection, since = self._idle.popleft()
            if since < now - IDLE_S:
                connection.disconnect()
            else:
                self._idle.appendleft((connection, since))

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[0].disconnect()

    def reset_after_fork(self) -> None:
        """In the child: the connections are the parent's."""
        self._idle = deque()


def _read(connection: Any) -> Any:
    try:
        return connection.read_response()
    except exceptions.ResponseError as error:
        return error
