"""What a pool knows of each of its connections, and its statistics."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from traceback import StackSummary
from typing import Generic, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")


class Arguments(NamedTuple):
    """Of an acquire or a release: for the factory, or for the cleaner."""

    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = {}  # noqa: RUF012  # never written to


NO_ARGUMENTS = Arguments()
Given: TypeAlias = tuple[Iterable[object], Mapping[str, object]]  # what a user gives for one call of the factory


async def first_arguments(number: int, akgen: object) -> list[Arguments]:
    """Arguments for so many connections; no more are taken out of the generator."""
    given: list[Given] = []
    if isinstance(akgen, AsyncIterable):
        if number:
            async for pair in akgen:
                given.append(pair)
                if len(given) == number:
                    break
    elif isinstance(akgen, Iterable):
        given += itertools.islice(akgen, number)
    elif akgen is not None:
        raise TypeError(f"akgen must be an iterable of (args, kwargs) or None, not {akgen!r}")
    try:
        found = [Arguments(tuple(args), dict(kwargs)) for args, kwargs in given]
    except (TypeError, ValueError) as error:
        raise TypeError(f"akgen gives pairs of arguments, (args, kwargs); it gave {given!r}") from error
    return found + [NO_ARGUMENTS] * (number - len(found))


class Record(Generic[T]):
    """A connection of a pool, known by its identity: it need not be hashable, and may equal others.

    Attributes:
        key: the identity; nobody else's as long as the record refers to the connection.
        until: when its life ends.
        usable: False: it is retired when it comes back.
        lends: how often it was lent. Maintenance sees by it whether the connection was used.
        seen, used_at: the lends that maintenance saw last, and when it saw that they had changed.
    """

    __slots__ = (
        "arguments", "checked_at", "conn", "key", "lends", "lent_at", "reported", "seen", "stack", "until", "usable",
        "used_at",
    )  # fmt: skip

    def __init__(self, conn: T, arguments: Arguments, now: float, until: float) -> None:
        self.conn, self.key, self.arguments, self.until = conn, id(conn), arguments, until
        self.usable = True
        self.lends = self.seen = 0
        self.checked_at = self.used_at = self.lent_at = now
        self.stack: StackSummary | None = None
        self.reported = False


@dataclass(slots=True)
class Counts:
    """What a pool has done so far; in `lends` those of connections that it has given up."""

    lends: int = 0
    waits: int = 0
    timeouts: int = 0
    refused: int = 0
    made: int = 0
    failed: int = 0
    sick: int = 0
    retired: int = 0


@dataclass(frozen=True, slots=True)
class Loan(Generic[T]):
    """A connection that has been lent for long.

    Attributes:
        seconds: for how long.
        stack: where it was acquired.
    """

    conn: T
    seconds: float
    stack: StackSummary


@dataclass(frozen=True, slots=True)
class ConnectionPoolStats:
    """A pool at one moment.

    Attributes:
        available, in_use: connections that lie idle, and that are lent.
        making, checking, cleaning: what runs now: the factory, the healthchecker, the cleaner.
        waiting: acquires that wait.
        lends: acquires that got a connection.
        waits: acquires that had to wait, for another's connection or for a new one.
        timeouts, refused: acquires that ended with PoolTimeout, with PoolFull.
        made, failed: what became of calls of the factory.
        sick: connections that the healthchecker refused.
        retired: connections that the pool has given up.
    """

    minsize: int
    maxsize: int
    currsize: int
    available: int
    in_use: int
    making: int
    checking: int
    cleaning: int
    waiting: int
    lends: int
    waits: int
    timeouts: int
    refused: int
    made: int
    failed: int
    sick: int
    retired: int
