"""The Lua scripts: their text, how a command becomes their arguments, how their reply becomes an answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import starmap
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, assert_never, cast

from hiredis import pack_command

from .._core.commands import (
    Acquire,
    Configure,
    Find,
    Inspect,
    Look,
    PutBack,
    Release,
    Renew,
    ScriptCommand,
    Size,
    StartReserved,
    Sweep,
    Ticket,
    WaitInQueue,
    Withdraw,
)
from .._core.keys import Schema
from .._core.replies import Found, Heir, HolderView, PoolView, Reply, Room, Status
from .._core.store_command import StoreCommand
from .records import SlotRecord

A = TypeVar("A")
AfterError: TypeAlias = Callable[[Sequence[ScriptCommand], Sequence[Any]], list[Any]]

NAMES: Final = (
    "acquire", "start_reserved", "wait_in_queue", "renew", "release", "withdraw", "put_back", "sweep", "configure",
    "size", "look", "inspect", "find", "ping", "postpone", "take_postponed",
)  # fmt: skip
_INCLUDE: Final = re.compile(r"^-- include (\w+)\n", re.MULTILINE)


class Script(NamedTuple):
    text: str
    sha: str


@cache
def _sources() -> dict[str, str]:
    """All files, read at the first use: the first release may come when the interpreter ends and can read no more."""
    folder = files("cachify_tasks").joinpath("_store", "_lua")
    found = (path for path in folder.iterdir() if path.name.endswith(".lua"))
    return {path.name.removesuffix(".lua"): path.read_text("utf-8") for path in found}


def included(name: str, sources: Mapping[str, str]) -> str:
    """The script of that name, with the files that it includes in their places."""
    return _INCLUDE.sub(lambda found: included(found[1], sources), sources[name])


@cache
def script(name: str) -> Script:
    """The script of that name."""
    text = included(name, _sources())
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(text, sha)


def arguments(command: ScriptCommand, schema: Schema, now: str) -> tuple[Any, ...]:
    """What follows the script's digest in EVALSHA: the number of keys, the keys, the arguments."""
    keys = schema.pool(command.pool)
    pool = command.pool
    match command:
        case Acquire():
            return (
                8, *keys[:7], keys.tombstone + command.holder, now, pool, command.holder, command.request_id,
                command.limit, command.lease_ms, command.start_ms, command.slot_exp_ms, command.label,
                _flag(command.by_worker), _flag(command.first_delivery), _flag(command.can_start_heirs),
                *_ticket(command.ticket),
            )  # fmt: skip
        case StartReserved():
            return (
                8, *keys[:7], keys.tombstone + command.holder, now, pool, command.holder, command.request_id,
                command.limit, command.lease_ms, command.start_ms, command.slot_exp_ms, command.label,
                _flag(command.by_worker), _flag(command.can_start_heirs), command.starter,
            )  # fmt: skip
        case WaitInQueue():
            return (
                8, *keys[:7], keys.tombstone + command.holder, now, pool, command.holder, command.request_id,
                command.limit, command.lease_ms, command.start_ms, command.slot_exp_ms, command.label,
                _flag(command.by_worker), command.channel,
            )  # fmt: skip
        case Release():
            return (
                8, *keys[:7], keys.tombstone + command.holder, now, pool, command.holder, command.token,
                command.request_id, command.start_ms, command.tomb_ms, _flag(command.requeue),
                _flag(command.can_start_heirs), _flag(command.reserve_for_me), _flag(command.died),
            )  # fmt: skip
        case PutBack():
            return (
                8, *keys[:7], keys.tombstone + command.holder, now, pool, command.holder, command.token,
                command.start_ms, command.tomb_ms, command.pause_ms, _flag(command.unknown),
                _flag(command.can_start_heirs),
            )  # fmt: skip
        case Renew():
            started = _flag(command.started)
            return (7, *keys[:7], now, pool, command.holder, command.token, command.lease_ms, started)
        case Withdraw():
            return (
                8, *keys[:7], keys.tombstone + command.holder, now, pool, command.holder, command.start_ms,
                command.tomb_ms, _flag(command.can_start_heirs),
            )  # fmt: skip
        case Sweep():
            return (7, *keys[:7], now, pool, command.start_ms, _flag(command.can_start_heirs))
        case Configure():
            limit = "" if command.limit is None else command.limit
            return (7, *keys[:7], now, pool, limit, command.start_ms, _flag(command.can_start_heirs))
        case Find():
            return (7, *keys[:7], now, pool, *command.tasks)
        case Size() | Look() | Inspect():
            return (7, *keys[:7], now, pool)
        case _:
            assert_never(command)


def _flag(value: bool) -> str:
    return "1" if value else ""


def _ticket(ticket: Ticket | None) -> tuple[Any, ...]:
    if ticket is None:
        return ()
    return (
        ticket.kind, ticket.envelope, ticket.task_id, _flag(ticket.park), ticket.priority, ticket.max_parked,
    )  # fmt: skip


def packed(command: Iterable[Any]) -> bytes:
    """A command in RESP.

    hiredis calls `str` on numbers, which looks for signals first; where the handler of one raises, it crashes (3.5). So
    it gets none.
    """
    parts: tuple[Any, ...] = tuple([str(part) if type(part) is int else part for part in command])
    data: bytes = pack_command(parts)
    return data


def evalsha(code: Script, args: tuple[Any, ...]) -> bytes:
    """The whole command in RESP."""
    return packed(("EVALSHA", code.sha, *args))


def whole(code: Script, args: tuple[Any, ...]) -> bytes:
    """The same with the script's text, for a server that does not know its digest."""
    return packed(("EVAL", code.text, *args))


class Codec:
    """The scripts of one store: commands as bytes, and what the replies to them mean.

    Args:
        clock: tests only: the time in microseconds, in place of the server's.
        after_error: answers the rest of a batch, from the first reply that is an error.
    """

    def __init__(self, schema: Schema, clock: Callable[[], int] | None, after_error: AfterError) -> None:
        self._schema = schema
        self._clock = clock
        self._after_error = after_error

    def packed(self, commands: Sequence[ScriptCommand]) -> bytes:
        """Scripts as they go over the wire."""
        schema, now = self._schema, "" if self._clock is None else str(self._clock())
        parts = []
        for command in commands:
            args = arguments(command, schema, now)
            parts.append(evalsha(script(command.script), args))
        return b"".join(parts)

    def answers(self, commands: Sequence[ScriptCommand], replies: Sequence[Any]) -> list[Any]:
        """What the replies to these scripts mean; one that is an error is given as a value."""
        answers: list[Any] = []
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                done = len(answers)
                return answers + self._after_error(commands[done:], replies[done:])
            answers.append(decoded(command, reply))
        return answers


def text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def decoded(command: StoreCommand[A], reply: Any) -> A:
    """The answer that a script's reply stands for."""
    answer: Any
    if isinstance(command, Size):
        answer = int(reply)
    elif isinstance(command, Look):
        held, waiting, override = reply
        answer = Room(int(held), int(waiting), int(override) if override else None)
    elif isinstance(command, Inspect):
        answer = _view(command.pool, reply)
    elif isinstance(command, Find):
        rows = zip(*[iter(reply)] * 4, strict=True)
        answer = [
            Found(text(holder), bytes(envelope), bool(waits), text(kind)) for holder, envelope, waits, kind in rows
        ]
    else:
        answer = _reply(reply)
    return cast("A", answer)


def _reply(reply: Any) -> Reply:
    if isinstance(reply, list):
        line, *rows = reply
        fields = (
            map(text, rows[::8]), map(int, rows[1::8]), rows[2::8], map(int, rows[3::8]), map(text, rows[4::8]),
            map(int, rows[5::8]), map(int, rows[6::8]), (text(ran) == "1" for ran in rows[7::8]),
        )  # fmt: skip
        heirs = tuple(starmap(Heir, zip(*fields, strict=True)))
    else:
        line, heirs = reply, ()
    status, token, held, limit, previous_limit = text(line).split(" ")
    return Reply(cast("Status", status), int(token), int(held), int(limit), int(previous_limit), heirs)


def _view(pool: str, reply: Sequence[bytes | str]) -> PoolView:
    limit, waiting, now, *rows = map(text, reply)
    holders = []
    for holder, record, deadline in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        slot = SlotRecord.decoded(record)
        expires_in = (float(deadline) - float(now)) / 1e6
        holders.append(HolderView(holder, slot.token, slot.label, slot.reserved, slot.since / 1e6, expires_in))
    return PoolView(pool, int(limit), int(waiting), tuple(holders))
