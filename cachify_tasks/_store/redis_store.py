"""The store in Redis: each command one EVALSHA."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from .._core.commands import Command, ScriptCommand, SlotRequest, resent
from .._core.key_commands import KeyCommand, Ping
from .._core.keys import Schema
from .._core.store_command import StoreCommand
from .._redis import clients
from .._redis.asyncio_connection import Answer, AsyncSender
from .._redis.loop_clients import LoopClient, LoopClients
from .._redis.sync_connection import SyncSender, direct
from ..errors import CachifyStoreError
from ..settings import hide_password
from .interface import ServerFacts
from .key_commands import aask, answer_of, ask, calls_of, check_version, ping
from .scripts import Codec, arguments, decoded, evalsha, packed, script, text, whole
from .wakeup_listener import Listener
from .wakeups import Wakeups

A = TypeVar("A")

PING_EVERY: Final = 60.0  # seconds
ONE_NODE: Final = (
    "is a node of a Redis Cluster, which has a part of the keys alone: give sync_client=RedisCluster(...), or the URL "
    "of a server that is in no cluster"
)


def denied(error: BaseException | None) -> bool:
    """Did the server refuse the credentials, as opposed to being out of reach?"""
    denials = AuthenticationError, AuthorizationError, NoPermissionError
    refused = isinstance(error, ResponseError) and "NOAUTH" in str(error)
    return isinstance(error, denials) or refused


def _wrapped(error: Exception, shown: str, schema: Schema) -> CachifyStoreError:
    reason = "refused the credentials" if denied(error) else "could not answer"
    if isinstance(error, MovedError):
        return CachifyStoreError(f"the store {shown} {ONE_NODE}: {error}")
    if isinstance(error, NoPermissionError):
        reason = f"does not permit this user what it needs (keys {schema.pattern}, channels {schema.wakeups('*')})"
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
        self.schema = Schema(prefix, clients.layout_of(sync_client, async_client))
        self.codec = Codec(self.schema, clock, self._answers_after_error)
        self._ping_at = 0.0  # monotonic seconds: when `_check_schema` is due; a race costs one ping more
        self._url, self._clock = url, clock
        self._given_sync, self._given_async = sync_client, async_client
        self._sync = sync_client if sync_client is not None and not clients.decodes(sync_client) else None
        self._loops = LoopClients(None if clients.decodes(async_client) else async_client, self._async_client)
        self._lock = threading.Lock()
        self._wakeups: Listener | None = None
        self._sender = SyncSender(self._sync) if self._sync is not None and direct(self._sync) else None
        self.shown = hide_password(url) if url else _where(sync_client or async_client)

    @property
    def client(self) -> Any:
        """The synchronous redis-py client."""
        if self._sync is None:
            with self._lock:
                if self._sync is None:
                    given = self._given_sync if self._given_sync is not None else self._given_async
                    client = clients.sync_from_url(self._url) if self._url else clients.sync_like(given)
                    self._sender = SyncSender(client)
                    self._sync = client
        return self._sync

    def execute(self, command: StoreCommand[A]) -> A:
        client = self._sync or self.client
        try:
            if time.monotonic() >= self._ping_at or isinstance(command, Ping):
                self._check_schema(client)
            if isinstance(command, KeyCommand):
                answer: Any = self._ask(client, command)
            else:
                answer = self._run(client, command)  # type: ignore[arg-type]  # no other kinds are executed
        except RedisError as error:
            raise _wrapped(error, self.shown, self.schema) from error
        return cast("A", answer)

    def _ask(self, client: Any, command: KeyCommand) -> Any:
        if self._sender is None:
            return ask(client, command, self.schema, self._now())
        now = self._now()
        calls = calls_of(command, self.schema, now)
        replies = self._sender.call(b"".join(map(packed, calls)), len(calls)) if calls else []
        return answer_of(command, replies, now)

    async def _aask(self, own: LoopClient, command: KeyCommand) -> Any:
        if own.sender is None:
            return await aask(own.client, command, self.schema, self._now())
        now = self._now()
        calls = calls_of(command, self.schema, now)
        return answer_of(command, [await own.sender.call(packed(call)) for call in calls], now)

    def _check_schema(self, client: Any) -> None:
        """Ping, at the first use and every minute: the store may have been emptied, and others use other keys in it."""
        call = ping(self.schema)
        self._pinged(client.execute_command(*call) if self._sender is None else self._sender.call(packed(call))[0])

    async def _acheck_schema(self, client: Any, sender: AsyncSender | None) -> None:
        call = ping(self.schema)
        self._pinged(await (client.execute_command(*call) if sender is None else sender.call(packed(call))))

    def _pinged(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            raise reply
        check_version(self.schema, text(reply))
        self._ping_at = time.monotonic() + PING_EVERY

    def _run(self, client: Any, command: ScriptCommand) -> Any:
        def again() -> tuple[Any, ...]:
            return arguments(resent(command), self.schema, self._now())

        args = arguments(command, self.schema, self._now())
        code = script(command.script)
        try:
            if self._sender is not None:
                (reply,) = self._sender.call(evalsha(code, args), again=lambda: evalsha(code, again()))
                if isinstance(reply, NoScriptError):
                    (reply,) = self._sender.call(whole(code, args), again=lambda: whole(code, again()))
                if isinstance(reply, Exception):
                    raise reply
            else:
                reply = client.execute_command("EVALSHA", code.sha, *args)
        except NoScriptError:
            reply = client.execute_command("EVAL", code.text, *args)
        return decoded(command, reply)

    def _now(self) -> str:
        return str(self._clock()) if self._clock else ""

    def execute_many(self, commands: Sequence[StoreCommand[A]]) -> list[A | CachifyStoreError]:
        """Run scripts in one round trip; an answer that is an error is given as a value.

        Raises:
            CachifyStoreError: the store could not be reached; each command may have run or not.
        """
        if len(commands) == 1:
            return [self.execute(commands[0])]
        client, scripts = self.client, cast("Sequence[ScriptCommand]", commands)
        try:
            if time.monotonic() >= self._ping_at:
                self._check_schema(client)
            if self._sender is not None:
                replies = self._sender.call(self.codec.packed(scripts), len(scripts))
            else:
                pipe, now = client.pipeline(transaction=False), self._now()
                for command in scripts:
                    pipe.execute_command("EVALSHA", script(command.script).sha, *arguments(command, self.schema, now))
                replies = pipe.execute(raise_on_error=False)
        except RedisError as error:
            raise _wrapped(error, self.shown, self.schema) from error
        return self.codec.answers(scripts, replies)

    def _answers_after_error(self, commands: Sequence[ScriptCommand], replies: Sequence[Any]) -> list[Any]:
        answers: list[Any] = []
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, NoScriptError):  # what came after it has run without it: all again, in order
                done = len(answers)
                return answers + list(map(self._once_more, commands[done:], replies[done:]))
            answers.append(self.failure(reply) if isinstance(reply, Exception) else decoded(command, reply))
        return answers

    def _once_more(self, command: StoreCommand[Any], reply: Any) -> Any:
        """But what was parked is: where its slot was reserved meanwhile, it would be taken for a copy of itself."""
        if isinstance(command, SlotRequest) and not isinstance(reply, Exception):
            answer = decoded(command, reply)
            if answer.status == "parked":
                return answer
        try:
            return self.execute(command)
        except CachifyStoreError as error:
            return error

    def failure(self, error: Exception) -> CachifyStoreError:
        return _wrapped(error, self.shown, self.schema)

    def make_connection(self) -> Any:
        """A redis-py connection for the caller alone, not connected yet."""
        return clients.new_connection(self.client)

    @property
    def wakeups(self) -> Wakeups:
        """Of those in this process that wait for a slot."""
        if self._wakeups is None:
            with self._lock:
                if self._wakeups is None:
                    self._wakeups = Listener(self.make_connection, self.schema.wakeups, self.execute, self.shown)
        return self._wakeups

    def _async_client(self) -> Any:
        given = self._given_async if self._given_async is not None else self._given_sync
        return clients.async_from_url(self._url) if self._url else clients.async_like(given)

    def begin(self, command: StoreCommand[A]) -> asyncio.Future[A]:
        """The answer to come. What has been sent cannot be cancelled: the answer comes before the cancellation does."""
        loop, own = asyncio.get_running_loop(), self._loops.peek()
        if own is None or own.life is None or own.sender is None or isinstance(command, KeyCommand):
            return loop.create_task(self.aexecute(command))
        if time.monotonic() >= self._ping_at:
            return loop.create_task(self.aexecute(command))
        return self._begin(own, own.sender, command)  # type: ignore[arg-type]  # no other kinds are executed

    def _begin(self, own: LoopClient, sender: AsyncSender, command: ScriptCommand) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer: Answer[Any] = Answer(loop=loop)

        def then(reply: Any) -> None:
            if not isinstance(reply, Exception):
                answer.settle(decoded(command, reply))
            elif not answer.newest().done():  # sent again, slowly, as often as it is worth
                again = self._aexecute(own, command, timed_out=isinstance(reply, RedisTimeoutError))
                loop.create_task(again).add_done_callback(partial(_copy, answer))

        args = arguments(command, self.schema, self._now())
        if sender.send(evalsha(script(command.script), args), then):
            return answer
        return loop.create_task(self.aexecute(command))

    async def aexecute(self, command: StoreCommand[A]) -> A:
        answer: Any = await self._aexecute(self._loops.current(), command)  # type: ignore[arg-type]
        return cast("A", answer)

    async def _aexecute(self, own: LoopClient, command: Command, *, timed_out: bool = False) -> Any:
        own.users += 1
        try:
            return await self._arun(own, command, timed_out)
        finally:
            own.users -= 1
            await own.rest()

    async def _arun(self, own: LoopClient, command: Command, timed_out: bool) -> Any:
        client, sender = own.client, own.sender
        try:
            if time.monotonic() >= self._ping_at or isinstance(command, Ping):
                await self._acheck_schema(client, sender)
            if isinstance(command, KeyCommand):
                return await self._aask(own, command)
            args = arguments(command, self.schema, self._now())
            code = script(command.script)
            try:
                if sender is not None:
                    reply = await sender.call(evalsha(code, args), timed_out=timed_out)
                    if isinstance(reply, NoScriptError):
                        reply = await sender.call(whole(code, args))
                    if isinstance(reply, Exception):
                        raise reply
                else:
                    reply = await client.execute_command("EVALSHA", code.sha, *args)
            except NoScriptError:
                reply = await client.execute_command("EVAL", code.text, *args)
            return decoded(command, reply)
        except RedisError as error:
            raise _wrapped(error, self.shown, self.schema) from error

    def server(self) -> ServerFacts:
        client = self.client
        try:
            info = client.info()
        except RedisError:
            return ServerFacts()
        if info.get("cluster_enabled") and self.schema.layout == "single":
            raise CachifyStoreError(f"the store {self.shown} {ONE_NODE}")
        eviction = str(info.get("maxmemory_policy", ""))
        if info.get("aof_enabled"):
            return ServerFacts(eviction, persistent=True)
        try:
            return ServerFacts(eviction, persistent=bool(client.config_get("save").get("save")))
        except RedisError:
            return ServerFacts(eviction)

    def close(self) -> None:
        """Close the synchronous connections that this store opened itself; who waits asks now and then."""
        if self._wakeups is not None:
            self._wakeups.stop()
        if self._sender is not None:
            self._sender.close()
        if self._sync is not None and self._sync is not self._given_sync:
            self._sync.close()

    async def aclose(self) -> None:
        """Close the running loop's connections that this store opened itself."""
        await self._loops.aclose()

    def reset_after_fork(self) -> None:
        """In the child: event loops and the given asyncio client are the parent's. redis-py looks after sync ones."""
        self._lock = threading.Lock()
        self._loops = LoopClients(None, self._async_client)
        if self._wakeups is not None:
            self._wakeups.renew()
        if self._sender is not None:
            self._sender.reset_after_fork()

    def __repr__(self) -> str:
        return f"<RedisStore {self.shown}>"


def _copy(first: Answer[Any], done: asyncio.Future[Any]) -> None:
    answer = first.newest()
    if done.cancelled():
        answer.set_exception(CachifyStoreError("the event loop ended before the store had answered"))
    elif (error := done.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())


def _where(client: Any) -> str:
    kwargs = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    if "path" in kwargs:
        return f"unix://{kwargs['path']}"
    return f"redis://{kwargs.get('host', '?')}:{kwargs.get('port', '?')}/{kwargs.get('db', 0)}"
