"""The short way to a server: packed bytes over a connection of a redis-py pool.

`Redis.execute_command` costs more than the trip's own share of a script's time (options, metrics, packing argument by
argument). All commands here can be sent twice, so what is left of it is a small loop that tries again.
"""

from __future__ import annotations

import asyncio
import inspect
import time
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


def _options(pool: Any) -> tuple[str, ...]:
    """redis-py before 5.3 wants the command's name to choose a connection."""
    parameter = inspect.signature(pool.get_connection).parameters.get("command_name")
    return ("EVALSHA",) if parameter is not None and parameter.default is parameter.empty else ()


def direct(client: Any) -> bool:
    """Does this client work by a plain pool of connections? A cluster's does not, nor one bound to a connection."""
    plain = isinstance(client, redis.Redis | redis.asyncio.Redis)
    return plain and getattr(client, "connection", None) is None and not getattr(client, "single_connection_client", 0)


class Wire:
    """Sends packed commands by a synchronous client's connections."""

    def __init__(self, client: Any) -> None:
        self._pool = client.connection_pool
        self._options = _options(self._pool)

    def call(self, data: bytes, replies: int = 1) -> list[Any]:
        """Send commands in one write; the answer to each is its value, or the error that the server gave.

        Raises:
            RedisError: the connection failed three times; each command may have run or not.
        """
        for pause in PAUSES:
            try:
                return self._once(data, replies)
            except DENIED:
                raise
            except LOST:
                time.sleep(pause)
        return self._once(data, replies)

    def _once(self, data: bytes, replies: int) -> list[Any]:
        connection = self._pool.get_connection(*self._options)
        try:
            connection.send_packed_command((data,))
            return [_read(connection) for _ in range(replies)]
        except BaseException:
            connection.disconnect()  # what it would say next is the answer to something else
            raise
        finally:
            self._pool.release(connection)


def _read(connection: Any) -> Any:
    try:
        return connection.read_response()
    except exceptions.ResponseError as error:
        return error


class AsyncWire:
    """Sends packed commands by an asyncio client's connections."""

    def __init__(self, client: Any) -> None:
        self._pool = client.connection_pool
        self._options = _options(self._pool)

    async def call(self, data: bytes) -> Any:
        """As `Wire.call`, for one command."""
        for pause in PAUSES:
            try:
                return await self._once(data)
            except DENIED:
                raise
            except LOST:
                await asyncio.sleep(pause)
        return await self._once(data)

    async def _once(self, data: bytes) -> Any:
        connection = await self._pool.get_connection(*self._options)
        try:
            await connection.send_packed_command((data,))
            try:
                return await connection.read_response()
            except exceptions.ResponseError as error:
                return error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)
