"""Where things live in Redis: the key schema, version 1.

All keys of a pool carry the hash tag of its bucket, `{prefix:b17}`, so that one script can update a pool and its
bucket's indexes on a Redis Cluster too. The bucket comes from the pool's name; there are 256.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple
from zlib import crc32

BUCKETS: Final = 256
VERSION: Final = 1


class PoolKeys(NamedTuple):
    slots: str  # ZSET holder -> deadline in µs of the server's clock
    state: str  # HASH counter, limit (the last acquire's), override (given at run time), lives (ms; -1: for ever), and
    # "=holder" -> "token|place|rid|hard|since|label", no rid: reserved for a heir; "@task" -> its holder with a ticket
    # "%holder" -> how often a reservation of its ticket ended unused
    queue: str  # ZSET holder -> place: when it arrived, in µs, less 2^40 for each priority; + 0.5: it has come back
    tickets: str  # HASH holder -> envelope; "~channel": a function that waits, to be told there
    waiting: str  # ZSET of the bucket: pools with tickets -> when a reaper is due, in µs
    leased: str  # ZSET of the bucket: pools with leases -> the last deadline, in µs
    done: str  # prefix of STRINGs: holder -> the last reply about it (tombstone)


class Schema:
    """Names of keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.pool = lru_cache(maxsize=4096)(self._pool)

    def _pool(self, name: str) -> PoolKeys:
        bucket = self.bucket(crc32(name.encode()) % BUCKETS)
        pool = f"{bucket}:pool:{name}:"
        return PoolKeys(
            slots=f"{pool}slots",
            state=f"{pool}state",
            queue=f"{pool}queue",
            tickets=f"{pool}tickets",
            waiting=f"{bucket}:waiting",
            leased=f"{bucket}:leased",
            done=f"{pool}done:",
        )

    def bucket(self, number: int) -> str:
        return f"{{{self.prefix}:b{number}}}:{VERSION}"

    def leased(self) -> list[str]:
        """The indexes of pools with leases, one a bucket."""
        return [f"{self.bucket(number)}:leased" for number in range(BUCKETS)]

    def waiting(self) -> list[str]:
        """The indexes of pools with tickets, one a bucket."""
        return [f"{self.bucket(number)}:waiting" for number in range(BUCKETS)]

    def cache(self, key: str) -> str:
        return f"{self.prefix}:{VERSION}:cache:{key}"

    def calls(self, process: str) -> str:
        """The pub/sub channel on which that process is told of slots that are reserved for its waiters."""
        return f"{self.prefix}:{VERSION}:calls:{process}"

    def claim(self, name: str) -> str:
        return f"{self.prefix}:{VERSION}:{name}"
