"""Names of the keys in Redis: the key schema, version 1.

One script updates a pool and the indexes of pools, so in a Redis Cluster their keys must lie in one slot: they share a
hash tag. There are two layouts. "single", for one server or Sentinel, has one tag and so one index of pools.
"cluster" spreads the pools over 256 tags by their names, each with an index of its own.

docs/explanation/keys-in-redis.md lists the keys and what they hold.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias
from zlib import crc32

BUCKETS: Final = 256  # hash tags on a cluster
VERSION: Final = 1

Layout: TypeAlias = Literal["single", "cluster"]


class PoolKeys(NamedTuple):
    slots: str  # ZSET: holder -> deadline in µs of the server's clock
    state: str  # HASH: the pool's numbers, and the record of each slot (fields: `_store/records.py`)
    queue: str  # ZSET: holder -> rank
    tickets: str  # HASH: of each ticket its record and its envelope or channel (fields: `_store/records.py`)
    waiting: str  # ZSET, an index: pools with tickets -> when a reaper is due, in µs
    leased: str  # ZSET, an index: pools with leases -> the last deadline, in µs
    tasks: str  # HASH, an index: task id -> the pool in which its newest ticket is
    tombstone: str  # prefix of STRINGs: holder -> the last answer about it


class Indexes(NamedTuple):
    waiting: str
    leased: str
    tasks: str


class Schema:
    """Names of keys under one prefix.

    Args:
        layout: "cluster" for clients of a Redis Cluster, else "single".
    """

    def __init__(self, prefix: str, layout: Layout = "single") -> None:
        self.prefix = prefix
        self.layout = layout
        self.pool = lru_cache(maxsize=4096)(self._pool)

    @property
    def version(self) -> str:
        """What clients must agree on; the store keeps it under `marker`."""
        return f"{VERSION} {self.layout}"

    @property
    def marker(self) -> str:
        """The key that says which version and layout the keys of this prefix have; its own name never changes."""
        return f"{{{self.prefix}}}:schema"

    @property
    def pattern(self) -> str:
        """Matches all keys of this prefix, in an ACL rule of Redis."""
        return f"{self._tagged('').rpartition(':')[0]}:*" if self.layout == "single" else f"*{self.prefix}*"

    def _pool(self, name: str) -> PoolKeys:
        base = self.base(name)
        pool = f"{base}:pool:{name}:"
        return PoolKeys(
            slots=f"{pool}slots",
            state=f"{pool}state",
            queue=f"{pool}queue",
            tickets=f"{pool}tickets",
            waiting=f"{base}:waiting",
            leased=f"{base}:leased",
            tasks=f"{base}:tasks",
            tombstone=f"{pool}tombstone:",
        )

    def base(self, pool: str) -> str:
        """How the keys of a pool and of its indexes begin.

        On a cluster, pools whose names are equal up to the first "::" share a hash tag.
        """
        if self.layout == "single":
            return self._tagged("")
        group = pool.partition("::")[0]
        return self._tagged(f":b{crc32(group.encode('utf-8', 'surrogatepass')) % BUCKETS}")

    def indexes(self) -> list[Indexes]:
        """The indexes of pools, one pair for each hash tag."""
        tags = [""] if self.layout == "single" else [f":b{number}" for number in range(BUCKETS)]
        return [Indexes(f"{base}:waiting", f"{base}:leased", f"{base}:tasks") for base in map(self._tagged, tags)]

    def _tagged(self, suffix: str) -> str:
        return f"{{{self.prefix}{suffix}}}:{VERSION}"

    def cache(self, key: str) -> str:
        return f"{self._other()}:cache:{key}"

    def claim(self, name: str) -> str:
        return f"{self._other()}:claim:{name}"

    def postponed(self, queue: str) -> tuple[str, str]:
        """The messages of a queue that are sent later: when they are due, and their bytes."""
        base = f"{self._tagged('' if self.layout == 'single' else ':later')}:later:{queue}:"
        return f"{base}due", f"{base}messages"

    def _other(self) -> str:
        """How keys begin that belong to no pool. On a cluster they have no tag, so that they are spread."""
        return self._tagged("") if self.layout == "single" else f"{self.prefix}:{VERSION}"

    def wakeups(self, process: str) -> str:
        """The pub/sub channel on which that process learns of slots that are reserved for its waiters."""
        return f"{self.prefix}:{VERSION}:wakeups:{process}"
