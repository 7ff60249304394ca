"""What a pool knows of each of its connections, and what it tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from traceback import StackSummary
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Recipe(NamedTuple):
    """Arguments for the factory."""

    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = {}  # noqa: RUF012  # never written to


PLAIN = Recipe()


class Record(Generic[T]):
    """A connection of a pool, known by its identity: it need not be hashable, and may equal others.

    Attributes:
        key: the identity; nobody else's as long as the record refers to the connection.
        until: when its life ends.
        fresh: False: it is retired when it comes back.
        lends: how often it was lent. Maintenance sees by it whether the connection was used.
        seen, used_at: the lends that maintenance saw last, and when it saw that they had changed.
    """

    __slots__ = (
        "checked_at", "conn", "fresh", "key", "lends", "lent_at", "recipe", "reported", "seen", "stack", "until",
        "used_at",
    )  # fmt: skip

    def __init__(self, conn: T, recipe: Recipe, now: float, until: float) -> None:
        self.conn, self.key, self.recipe, self.until = conn, id(conn), recipe, until
        self.fresh = True
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
