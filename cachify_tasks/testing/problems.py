"""What can be wrong with a store, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal[
    # limits
    "over-limit",
    "draining",
    "over-hard-limit",
    # who waits
    "free-beside-waiting",
    "reaper-due",
    "queued-without-envelope",
    "queued-and-held",
    "stranded-envelope",
    "reserved-without-envelope",
    "ticket-without-record",
    "ticket-without-envelope",
    "ticket-of-wrong-kind",
    "rank-differs",
    "misnamed-ticket",
    "nobody-starts-it",
    # what the keys of a pool say of each other
    "slot-without-record",
    "record-without-slot",
    "bad-field",
    "counter-behind",
    "token-twice",
    "rank-twice",
    # keys
    "keep-until-wrong",
    "immortal-key",
    "mortal-key",
    "not-indexed",
    "index-without-pool",
    "unknown-key",
    "wrong-type",
]
NOTES: Final[frozenset[Kind]] = frozenset({"draining"})


@dataclass(frozen=True, slots=True)
class Problem:
    """A broken invariant.

    Attributes:
        kind: its name.
        pool: the pool's key; empty: of no pool.
        detail: what was found.
    """

    kind: Kind
    pool: str
    detail: str

    @property
    def note(self) -> bool:
        """Perhaps it is in order: a pool that drains after its limit was lowered looks like one that is over it."""
        return self.kind in NOTES

    def __str__(self) -> str:
        return f"{self.kind}: {f'pool {self.pool!r}: ' if self.pool else ''}{self.detail}"
