"""The commands that need no script of a pool: what is sent for each, and what the replies mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias, TypeVar, assert_never, cast

from .._core.key_commands import (
    Claim,
    Delete,
    Due,
    ForgetPostponed,
    Get,
    KeyCommand,
    Locate,
    Ping,
    Pools,
    Postpone,
    Put,
    TakePostponed,
)
from .._core.keys import Schema
from .._core.replies import DuePools, Postponed
from .._core.store_command import StoreCommand
from ..errors import CachifyInitError
from .scripts import script, text

A = TypeVar("A")
Call: TypeAlias = tuple[Any, ...]

TOGETHER: Final = 99  # pools, less one, in one answer to a reaper
MARKER_TTL_MS: Final = 90 * 86_400_000  # each process that uses the store renews it, a worker every minute


def ask(client: Any, command: StoreCommand[A], schema: Schema, now: str) -> A:
    """The answer to a `KeyCommand`. now: the time in microseconds; empty: the server's."""
    calls = calls_of(cast("KeyCommand", command), schema, now)
    if len(calls) == 1:
        replies = [client.execute_command(*calls[0])]
    else:
        replies = _pipeline(client, calls).execute()
    return answer_of(command, replies, now)


async def aask(client: Any, command: StoreCommand[A], schema: Schema, now: str) -> A:
    """`ask` by an asynchronous client."""
    calls = calls_of(cast("KeyCommand", command), schema, now)
    if len(calls) == 1:
        replies = [await client.execute_command(*calls[0])]
    else:
        replies = await _pipeline(client, calls).execute()
    return answer_of(command, replies, now)


def _pipeline(client: Any, calls: Sequence[Call]) -> Any:
    pipe = client.pipeline(transaction=False)
    for call in calls:
        pipe.execute_command(*call)
    return pipe


def calls_of(command: KeyCommand, schema: Schema, now: str = "") -> list[Call]:
    """What is sent. Commands about all pools read each index: there is one, on a cluster one for each hash tag."""
    match command:
        case Ping():  # the store has just pinged: it does at the first use, too
            return []
        case Get(key):
            return [("GET", schema.cache(key))]
        case Put(key, value, ttl_ms):
            ttl = () if ttl_ms is None else ("PX", ttl_ms)
            return [("SET", schema.cache(key), value, *ttl)]
        case Delete(key):
            return [("DEL", schema.cache(key))]
        case Claim(name, ttl_ms):
            return [("SET", schema.claim(name), "", "NX", "PX", ttl_ms)]
        case Pools():
            return [("ZUNION", 2, index.leased, index.waiting) for index in schema.indexes()]
        case Locate(tasks):
            return [("HMGET", index.tasks, *tasks) for index in schema.indexes()]
        case Due():
            return [("TIME",), *(("ZRANGE", index.waiting, 0, TOGETHER, "WITHSCORES") for index in schema.indexes())]
        case Postpone(queue, name, message, delay_ms):
            return [_script("postpone", schema.postponed(queue), now, name, message, delay_ms)]
        case TakePostponed(queue, limit, hide_ms):
            return [_script("take_postponed", schema.postponed(queue), now, limit, hide_ms)]
        case ForgetPostponed(queue, names):
            due, messages = schema.postponed(queue)
            return [("ZREM", due, *names), ("HDEL", messages, *names)]
        case _:
            assert_never(command)


def _script(name: str, keys: Sequence[str], *args: Any) -> Call:
    return ("EVAL", script(name).text, len(keys), *keys, *args)


def answer_of(command: StoreCommand[A], replies: Sequence[Any], now: str = "") -> A:
    """The answer that the replies stand for; the first of them that is an error is raised. now: as in `ask`."""
    value: Any
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    match cast("KeyCommand", command):
        case Get():
            (value,) = replies
        case Claim():
            value = bool(replies[0])
        case Locate(tasks):
            pairs = [pair for reply in replies for pair in zip(tasks, reply, strict=True)]
            value = {task: text(pool) for task, pool in pairs if pool is not None}
        case Due():
            clock, *indexes = replies
            value = _due(indexes, int(now) if now else int(clock[0]) * 1_000_000 + int(clock[1]))
        case TakePostponed():
            next_ms, *pairs = replies[0]
            messages = {text(name): bytes(message) for name, message in zip(pairs[::2], pairs[1::2], strict=True)}
            value = Postponed(messages, None if next_ms < 0 else next_ms)
        case Pools():
            value = sorted({text(name) for reply in replies for name in reply})
        case _:
            value = None
    return cast("A", value)


def _due(indexes: Sequence[Sequence[Any]], now: int) -> DuePools:
    """Of the first pools in each index, with their scores; a server that speaks RESP3 gives pairs."""
    flat = [part for index in indexes for entry in index for part in (entry if isinstance(entry, list) else [entry])]
    pools = [text(name) for name, score in zip(flat[::2], flat[1::2], strict=True) if float(score) <= now]
    return DuePools(sorted(pools), bool(flat))


def ping(schema: Schema) -> Call:
    """The call that asks for the version of the store's keys, and writes it down where there is none."""
    return _script("ping", (schema.marker,), schema.version, MARKER_TTL_MS)


def check_version(schema: Schema, found: str) -> None:
    """Refuse to work beside clients that keep the same pools in other keys: together they would exceed the limits.

    Args:
        found: the reply to `ping`.

    Raises:
        CachifyInitError: it is another version or layout than the client's.
    """
    if found == schema.version:
        return
    version, _, layout = found.partition(" ")
    ours, _, our_layout = schema.version.partition(" ")
    if version != ours:
        raise CachifyInitError(
            f"the keys under the prefix {schema.prefix!r} have schema version {version}, and this cachify_tasks has "
            f"{ours}: use one version of it everywhere, or another prefix"
        )
    raise CachifyInitError(
        f"the keys under the prefix {schema.prefix!r} have the layout {layout!r}, and this client uses "
        f"{our_layout!r}: give all programs a RedisCluster client, or none of them, or use another prefix"
    )
