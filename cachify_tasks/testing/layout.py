"""Which pools, indexes and other keys there are under a prefix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from zlib import crc32

from .._core.keys import BUCKETS, VERSION, Schema
from .problems import Problem
from .snapshot import text

PARTS: Final = ("slots", "state", "queue", "tickets")
BATCH: Final = 500  # keys that are asked about in one trip


class Layout:
    """What a SCAN over the prefix finds. It is not atomic: pools are read one by one after it."""

    def __init__(self, client: Any, schema: Schema) -> None:
        self.pools: set[str] = set()
        self.found: list[Problem] = []
        self._client, self._schema = client, schema
        indexes, mortal = list[str](), list[str]()
        prefix = re.escape(schema.prefix)
        tagged = re.compile(rf"\{{{prefix}:b(\d+)\}}:{VERSION}:(?:(leased|waiting)|pool:(.*))", re.DOTALL)
        cached = schema.cache("")
        claim = re.compile(rf"{prefix}:{VERSION}:(?:[^:]+|revoke:.+)", re.DOTALL)
        for key in self._scan():
            found = tagged.fullmatch(key)
            pool = found and found[3] is not None and self._pool(int(found[1]), found[3])
            if pool:
                self.pools.add(pool)
            elif found and found[2] and int(found[1]) < BUCKETS:
                indexes.append(key)
            elif (found and pool == "") or claim.fullmatch(key):
                mortal.append(key)
            elif not key.startswith(cached):
                self.found.append(Problem("unknown-key", "", f"{key} is no key of this version"))
        for key in indexes:
            self._index(key)
        self._mortal(mortal)

    def _scan(self) -> Iterator[str]:
        glob = re.sub(r"([\[\]*?^\\-])", r"\\\1", self._schema.prefix)
        for pattern in (f"{{{glob}:*", f"{glob}:*"):
            yield from {text(key) for key in self._client.scan_iter(match=pattern, count=1000)}

    def _pool(self, bucket: int, rest: str) -> str | None:
        """The name of the pool of a key; empty: a tombstone; None: unknown. Names and holders may have colons, too."""
        name, _, part = rest.rpartition(":")
        if part in PARTS and _bucket(name) == bucket:
            return name
        ends = [mark.start() for mark in re.finditer("(?=:done:)", rest)]
        return "" if any(_bucket(rest[:end]) == bucket for end in ends) else None

    def _index(self, key: str) -> None:
        kind = text(self._client.type(key))
        if kind not in ("zset", "none"):
            self.found.append(Problem("wrong-type", "", f"{key} is a {kind}"))
            return
        for name in map(text, self._client.zrange(key, 0, -1)):
            if key.startswith(self._schema.bucket(_bucket(name)) + ":"):
                self.pools.add(name)
            else:
                self.found.append(Problem("index-without-pool", name, f"it is in {key}, the index of another bucket"))

    def _mortal(self, keys: list[str]) -> None:
        for begin in range(0, len(keys), BATCH):
            some = keys[begin : begin + BATCH]
            pipe = self._client.pipeline(transaction=False)
            for key in some:
                pipe.pttl(key)
            for key, life in zip(some, pipe.execute(), strict=True):
                if life == -1:
                    self.found.append(Problem("immortal-key", "", f"{key} has no TTL"))


def _bucket(name: str) -> int:
    return crc32(name.encode("utf-8", "surrogatepass")) % BUCKETS
