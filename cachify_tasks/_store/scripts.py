"""The Lua scripts: their text, how a command becomes their arguments, how their reply becomes a value."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.resources import files
from itertools import starmap
from typing import Any, Final, NamedTuple, assert_never, cast

from .._core.commands import (
    Acquire,
    Configure,
    Find,
    Found,
    Heir,
    HolderView,
    Look,
    PoolCommand,
    PoolView,
    Release,
    Renew,
    Reply,
    Size,
    StartReserved,
    Status,
    Sweep,
    WaitInQueue,
    Withdraw,
)
from .._core.keys import PoolKeys, Schema
from .._redis.sync_connection import packed

ScriptCommand = PoolCommand | Size | Look | Find
WAITER: Final = b"~"  # begins the envelope of a function that waits
NAMES: Final = ("acquire", "renew", "release", "withdraw", "sweep", "configure", "size", "look", "find")


class Script(NamedTuple):
    text: str
    sha: str
    head: bytes  # of the packed command: EVALSHA and the digest


@cache
def _sources() -> dict[str, str]:
    """All of them at the first use: the first release may come when the interpreter ends and can read no more."""
    folder = files("cachify_tasks").joinpath("_store", "_lua")
    return {name: folder.joinpath(f"{name}.lua").read_text("utf-8") for name in ("common", *NAMES)}


@cache
def script(name: str) -> Script:
    """The script of that name, what all share put in front."""
    text = "\n".join(_sources()[part] for part in ("common", name))
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(text, sha, packed(("EVALSHA", sha)))


def arguments(command: ScriptCommand, schema: Schema, now: str) -> tuple[Any, ...]:
    """What follows the script's digest in EVALSHA: the number of keys, the keys, the arguments."""
    pool = command.pool
    keys = schema.pool(pool)
    match command:
        case Acquire() | StartReserved() | WaitInQueue():
            flags, ticket = "", tuple[Any, ...]()
            match command:
                case Acquire(ticket=kept):
                    flags = ("f" if command.first_delivery else "") + ("s" if command.can_start_heirs else "")
                    if kept is not None:
                        flags += "p" if kept.park else ""
                        ticket = (kept.envelope, kept.priority, kept.max_parked)
                case StartReserved():
                    flags = "n" + ("s" if command.can_start_heirs else "")
                    ticket = ("", 0, 0, command.starter) if command.starter else ()
                case WaitInQueue():
                    flags, ticket = "p", (WAITER + command.channel.encode(), 0, 0)
            return (
                7, *keys[:6], keys.done + command.holder, now, pool, command.holder, command.request_id, command.limit,
                command.lease_ms, command.start_ms, command.slot_exp_ms, command.label, flags, *ticket,
            )  # fmt: skip
        case Release():
            flags = (
                ("a" if command.requeue else "")
                + ("s" if command.can_start_heirs else "")
                + ("b" if command.reserve_for_me else "")
            )
            return (
                7, *keys[:6], keys.done + command.holder, now, pool, command.holder, command.token, command.request_id,
                command.start_ms, command.tomb_ms, flags,
            )  # fmt: skip
        case Renew():
            acked = "1" if command.started else ""
            return (6, *keys[:6], now, pool, command.holder, command.token, command.lease_ms, acked)
        case Withdraw():
            can_start_heirs = "s" if command.can_start_heirs else ""
            return (
                7, *keys[:6], keys.done + command.holder, now, pool, command.holder, command.start_ms,
                command.tomb_ms, can_start_heirs,
            )  # fmt: skip
        case Sweep():
            return (6, *keys[:6], now, pool, command.start_ms)
        case Configure():
            limit = "" if command.limit is None else command.limit
            return (6, *keys[:6], now, pool, limit, command.start_ms, "s" if command.can_start_heirs else "")
        case Find():
            return (6, *keys[:6], now, pool, *command.tasks)
        case Size() | Look():
            return (6, *keys[:6], now, pool)
        case _:
            assert_never(command)


@lru_cache(maxsize=4096)
def _packed_keys(count: int, keys: PoolKeys) -> bytes:
    return packed((count, *keys[:6]))


def evalsha(code: Script, args: tuple[Any, ...], keys: PoolKeys) -> bytes:
    """The whole command as it goes over the wire; `args` as `arguments` made them of these keys."""
    return b"*%d\r\n%b%b%b" % (len(args) + 2, code.head, _packed_keys(args[0], keys), packed(args[7:]))


def whole(code: Script, args: tuple[Any, ...]) -> bytes:
    """The same with the script's text, for a server that does not know its digest."""
    return b"*%d\r\n%b" % (len(args) + 2, packed(("EVAL", code.text, *args)))


def text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def decoded(command: ScriptCommand, reply: Any) -> Reply | int | PoolView | list[Found]:
    """The value of a script's reply."""
    match command:
        case Size():
            return int(reply)
        case Look():
            return _view(command.pool, reply)
        case Find():
            tickets = zip(reply[::3], reply[1::3], reply[2::3], strict=True)
            return [Found(text(holder), bytes(envelope or b""), bool(waits)) for holder, envelope, waits in tickets]
    if not isinstance(reply, list):
        return _reply(text(reply), ())
    line, *rows = reply
    heirs = zip(map(text, rows[::4]), map(int, rows[1::4]), rows[2::4], map(int, rows[3::4]), strict=True)
    return _reply(text(line), tuple(starmap(Heir, heirs)))


def _reply(line: str, heirs: tuple[Heir, ...]) -> Reply:
    status, token, held, limit, previous_limit = line.split(" ")
    return Reply(cast("Status", status), int(token), int(held), int(limit), int(previous_limit), heirs)


def _view(pool: str, reply: Sequence[bytes | str]) -> PoolView:
    limit, waiting, now, *rows = map(text, reply)
    holders = []
    for holder, record, deadline in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        token, _place, request_id, _hard, since, label = record.split("|", 5)
        expires_in = (float(deadline) - float(now)) / 1e6
        holders.append(
            HolderView(holder, int(token), label if request_id else "", not request_id, int(since) / 1e6, expires_in)
        )
    return PoolView(pool, int(limit), int(waiting), tuple(holders))
