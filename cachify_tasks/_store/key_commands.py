"""The commands that need no script: what is sent for them, and what the replies mean.

Both are written once, as a generator: it yields the calls of a trip, and is sent their replies.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, assert_never

from .._core.commands import Claim, Delete, Due, Get, Index, Pools, Put, Ticketed
from .._core.keys import Schema
from .scripts import text

PlainCommand: TypeAlias = Get | Put | Delete | Claim | Index
Trips: TypeAlias = Generator[list[tuple[Any, ...]], Sequence[Any], Any]


def ask(client: Any, command: PlainCommand, schema: Schema, now: str) -> Any:
    """The answer to a command. now: the time in microseconds; empty: the server's."""
    trips = _trips(command, schema, now)
    try:
        calls = next(trips)
        while True:
            if len(calls) == 1:
                replies = [client.execute_command(*calls[0])]
            else:
                replies = _pipeline(client, calls).execute()
            calls = trips.send(replies)
    except StopIteration as end:
        return end.value


async def aask(client: Any, command: PlainCommand, schema: Schema, now: str) -> Any:
    """`ask` by an asynchronous client."""
    trips = _trips(command, schema, now)
    try:
        calls = next(trips)
        while True:
            if len(calls) == 1:
                replies = [await client.execute_command(*calls[0])]
            else:
                replies = await _pipeline(client, calls).execute()
            calls = trips.send(replies)
    except StopIteration as end:
        return end.value


def _pipeline(client: Any, calls: Sequence[tuple[Any, ...]]) -> Any:
    pipe = client.pipeline(transaction=False)
    for call in calls:
        pipe.execute_command(*call)
    return pipe


def _trips(command: PlainCommand, schema: Schema, now: str) -> Trips:
    match command:
        case Get(key):
            (value,) = yield [("GET", schema.cache(key))]
            return value
        case Put(key, value, ttl_ms):
            life = () if ttl_ms is None else ("PX", ttl_ms)
            yield [("SET", schema.cache(key), value, *life)]
        case Delete(key):
            yield [("DEL", schema.cache(key))]
        case Claim(name, ttl_ms):
            (granted,) = yield [("SET", schema.claim(name), "", "NX", "PX", ttl_ms)]
            return bool(granted)
        case Pools():
            return _names((yield [("ZRANGE", key, 0, -1) for key in schema.leased() + schema.waiting()]))
        case Ticketed():
            return _names((yield [("ZRANGE", key, 0, -1) for key in schema.waiting()]))
        case Due():
            if not now:  # of a cluster, one server's
                ((seconds, rest),) = yield [("EVAL", "return redis.call('TIME')", 1, schema.waiting()[0])]
                now = str(int(seconds) * 1_000_000 + int(rest))
            return _names((yield [("ZRANGEBYSCORE", key, "-inf", now) for key in schema.waiting()]))
        case _:
            assert_never(command)


def _names(replies: Sequence[Sequence[bytes | str]]) -> list[str]:
    return sorted({text(name) for reply in replies for name in reply})
