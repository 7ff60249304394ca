"""The store in Redis: each command one EVALSHA."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from .._core.commands import Command, Delete, Get, Pools, Put
from .._core.keys import Schema
from ..errors import CachifyStoreError
from ..settings import hide_password
from . import clients
from .scripts import ScriptCommand, arguments, decoded, evalsha, script, text
from .wire import AsyncWire, Wire, direct


def denied(error: BaseException | None) -> bool:
    """Did the server refuse the credentials, as opposed to being out of reach?"""
    denials = AuthenticationError, AuthorizationError, NoPermissionError
    refused = isinstance(error, ResponseError) and "NOAUTH" in str(error)
    return isinstance(error, denials) or refused


def _wrapped(error: Exception, shown: str) -> CachifyStoreError:
    reason = "refused the credentials" if denied(error) else "could not answer"
    return CachifyStoreError(f"the store {shown} {reason}: {type(error).__name__}: {error}")


class RedisStore:
    """Slots and cached values in a Redis or Valkey server.

    Args:
        url: where it is; or give clients.
        sync_client, async_client: redis-py clients. Of a kind not given, or where the given one cannot be used (another
            event loop, `decode_responses`), one is derived from the settings of the other.
        clock: tests only: the time in microseconds, in place of the server's.
    """

    local = False

    def __init__(
        self,
        prefix: str,
        url: str | None = None,
        *,
        sync_client: Any = None,
        async_client: Any = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.schema = Schema(prefix)
        self._url, self._clock = url, clock
        self._given_sync, self._given_async = sync_client, async_client
        self._sync = sync_client if sync_client is not None and not clients.decodes(sync_client) else None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Any, AsyncWire | None, Any]]
        self._loops = WeakKeyDictionary()  # client, wire, life
        self._free_async = async_client if not clients.decodes(async_client) else None
        self._lock = threading.Lock()
        self._wire = Wire(self._sync) if self._sync is not None and direct(self._sync) else None
        self.shown = hide_password(url) if url else _where(sync_client or async_client)

    # Synchronous ----------------------------------------------------------------------------------------------------
    @property
    def client(self) -> Any:
        """The synchronous redis-py client."""
        if self._sync is None:
            with self._lock:
                if self._sync is None:
                    given = self._given_sync if self._given_sync is not None else self._given_async
                    client = clients.sync_from_url(self._url) if self._url else clients.sync_like(given)
                    self._wire = Wire(client)
                    self._sync = client
        return self._sync

    def execute(self, command: Command) -> Any:
        client = self._sync or self.client
        try:
            match command:
                case Get(key):
                    return client.execute_command("GET", self.schema.cache(key))
                case Put() | Delete():
                    client.execute_command(*self._write(command))
                    return None
                case Pools():
                    pipe = client.pipeline(transaction=False)
                    for key in self.schema.leased() + self.schema.waiting():
                        pipe.execute_command("ZRANGE", key, 0, -1)
                    return _names(pipe.execute())
                case _:
                    return self._run(client, command)
        except RedisError as error:
            raise _wrapped(error, self.shown) from error

    def _run(self, client: Any, command: ScriptCommand) -> Any:
        args = arguments(command, self.schema, self._now())
        code = script(command.script)
        try:
            if self._wire is not None:
                (reply,) = self._wire.call(evalsha(code, args, self.schema.pool(command.pool)))
                if isinstance(reply, Exception):
                    raise reply
            else:
                reply = client.execute_command("EVALSHA", code.sha, *args)
        except NoScriptError:
            reply = client.execute_command("EVAL", code.text, *args)
        return decoded(command, reply)

    def _now(self) -> str:
        return str(self._clock()) if self._clock else ""

    def execute_many(self, commands: Sequence[Command]) -> list[Any]:
        """Run scripts in one round trip; an answer that is an error is given as a value.

        Raises:
            CachifyStoreError: the store could not be reached; each command may have run or not.
        """
        if len(commands) == 1:
            return [self.execute(commands[0])]
        client, now = self.client, self._now()
        calls = [(script(c.script), arguments(c, self.schema, now), self.schema.pool(c.pool)) for c in commands]  # type: ignore[arg-type, union-attr]
        try:
            if self._wire is not None:
                replies = self._wire.call(b"".join(evalsha(*call) for call in calls), len(calls))
            else:
                pipe = client.pipeline(transaction=False)
                for code, args, _ in calls:
                    pipe.execute_command("EVALSHA", code.sha, *args)
                replies = pipe.execute(raise_on_error=False)
        except RedisError as error:
            raise _wrapped(error, self.shown) from error
        answers: list[Any] = []
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, NoScriptError):
                answers.append(self.execute(command))
            elif isinstance(reply, Exception):
                answers.append(_wrapped(reply, self.shown))
            else:
                answers.append(decoded(command, reply))  # type: ignore[arg-type]
        return answers

    # Asynchronous ---------------------------------------------------------------------------------------------------
    def _async_client(self) -> tuple[Any, AsyncWire | None, Any]:
        """Client, wire and life of the running event loop: connections belong to the loop that opened them."""
        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        if known is not None:
            return known
        for other in [other for other in self._loops if other.is_closed()]:
            del self._loops[other]
        client, self._free_async = self._free_async, None
        if client is None:
            given = self._given_async if self._given_async is not None else self._given_sync
            client = clients.async_from_url(self._url) if self._url else clients.async_like(given)
        wire = AsyncWire(client, clients.MAX_ASYNC) if direct(client) else None
        life = self._life(loop, client, wire)
        with contextlib.suppress(StopIteration):
            life.__anext__().send(None)  # as far as its yield; nothing is awaited before it
        self._loops[loop] = client, wire, life
        return client, wire, life

    async def _life(
        self, loop: asyncio.AbstractEventLoop, client: Any, wire: AsyncWire | None
    ) -> AsyncGenerator[None, None]:
        """Ends with its event loop, which closes asynchronous generators at its end (asyncio.run does).

        Others that are closed then may have a slot to free, now or later: that is still done, without a life.
        """
        try:
            yield
        finally:
            self._loops[loop] = client, wire, None
            await self._hang_up(client, wire)

    async def _hang_up(self, client: Any, wire: AsyncWire | None) -> None:
        if wire is not None:
            await wire.close()
        if client is not self._given_async:
            await client.aclose()

    async def aexecute(self, command: Command) -> Any:
        client, wire, life = self._async_client()
        try:
            return await self._arun(client, wire, command)
        finally:
            if life is None:
                await self._hang_up(client, wire)

    async def _arun(self, client: Any, wire: AsyncWire | None, command: Command) -> Any:
        try:
            match command:
                case Get(key):
                    return await client.execute_command("GET", self.schema.cache(key))
                case Put() | Delete():
                    await client.execute_command(*self._write(command))
                    return None
                case Pools():
                    pipe = client.pipeline(transaction=False)
                    for key in self.schema.leased() + self.schema.waiting():
                        pipe.execute_command("ZRANGE", key, 0, -1)
                    return _names(await pipe.execute())
                case _:
                    args = arguments(command, self.schema, self._now())
                    code = script(command.script)
                    try:
                        if wire is not None:
                            reply = await wire.call(evalsha(code, args, self.schema.pool(command.pool)))
                            if isinstance(reply, Exception):
                                raise reply
                        else:
                            reply = await client.execute_command("EVALSHA", code.sha, *args)
                    except NoScriptError:
                        reply = await client.execute_command("EVAL", code.text, *args)
                    return decoded(command, reply)
        except RedisError as error:
            raise _wrapped(error, self.shown) from error

    def _write(self, command: Put | Delete) -> tuple[Any, ...]:
        key = self.schema.cache(command.key)
        if isinstance(command, Delete):
            return "DEL", key
        life = () if command.ttl_ms is None else ("PX", command.ttl_ms)
        return "SET", key, command.value, *life

    def eviction(self) -> str:
        """What the server does when its memory is full: its maxmemory-policy; empty where it does not tell."""
        try:
            return str(self.client.info("memory").get("maxmemory_policy", ""))
        except RedisError:
            return ""

    # Life -----------------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Close the synchronous connections that this store opened itself."""
        if self._wire is not None:
            self._wire.close()
        if self._sync is not None and self._sync is not self._given_sync:
            self._sync.close()

    async def aclose(self) -> None:
        """Close the running loop's connections that this store opened itself."""
        loop = asyncio.get_running_loop()
        _, _, life = self._loops.get(loop, (None, None, None))
        if life is not None:
            await life.aclose()
            self._loops.pop(loop, None)

    def reset_after_fork(self) -> None:
        """In the child: the parent's event loops are not ours. redis-py itself looks after the sync connections."""
        self._lock = threading.Lock()
        self._loops = WeakKeyDictionary()
        self._free_async = None
        if self._wire is not None:
            self._wire.reset_after_fork()

    def __repr__(self) -> str:
        return f"<RedisStore {self.shown}>"


def _where(client: Any) -> str:
    kwargs = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    if "path" in kwargs:
        return f"unix://{kwargs['path']}"
    return f"redis://{kwargs.get('host', '?')}:{kwargs.get('port', '?')}/{kwargs.get('db', 0)}"


def _names(replies: list[list[bytes | str]]) -> list[str]:
    return sorted({text(name) for reply in replies for name in reply})
