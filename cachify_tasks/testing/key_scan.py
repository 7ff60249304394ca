"""Which pools, indexes and other keys there are under a prefix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from .._core.keys import VERSION, Schema
from .._store.key_commands import check_version
from ..errors import CachifyInitError
from .problems import Problem
from .snapshot import text

PARTS: Final = ("slots", "state", "queue", "tickets")
BATCH: Final = 500  # keys that are asked about in one trip


class KeyScan:
    """What a SCAN over the prefix finds. It is not atomic: pools are read one by one after it."""

    def __init__(self, client: Any, schema: Schema) -> None:
        self.pools: set[str] = set()
        self.found: list[Problem] = []
        self._client = client
        self._schema = schema
        self._indexes = {key for pair in schema.indexes() for key in pair}
        indexes, mortal = list[str](), list[str]()
        prefix = re.escape(schema.prefix)
        pool_key = re.compile(rf"(\{{{prefix}(?::b\d+)?\}}:{VERSION}):pool:(.*)", re.DOTALL)
        cached, claim, later = schema.cache(""), schema.claim(""), schema.postponed("")[0].partition(":later:")[0]
        for key in self._scan():
            parted = pool_key.fullmatch(key)
            pool = parted and self._pool(parted[1], parted[2])
            if pool:
                self.pools.add(pool)
            elif key in self._indexes:
                indexes.append(key)
            elif pool == "" or key.startswith(claim):
                mortal.append(key)
            elif key == schema.marker:
                mortal.append(key)
                self._marker()
            elif not key.startswith((cached, f"{later}:later:")):
                self.found.append(Problem("unknown-key", "", f"{key} is no key of this version and layout"))
        for key in indexes:
            self._index(key)
        self._mortal(mortal)

    def _scan(self) -> Iterator[str]:
        glob = re.sub(r"([\[\]*?^\\-])", r"\\\1", self._schema.prefix)
        for pattern in (f"{{{glob}[}}:]*", f"{glob}:*"):
            yield from {text(key) for key in self._client.scan_iter(match=pattern, count=1000)}

    def _pool(self, base: str, rest: str) -> str | None:
        """The name of the pool of a key; empty: a tombstone; None: unknown. Names and holders may have colons, too."""
        name, _, part = rest.rpartition(":")
        if part in PARTS and self._schema.base(name) == base:
            return name
        ends = [mark.start() for mark in re.finditer("(?=:tombstone:)", rest)]
        return "" if any(self._schema.base(rest[:end]) == base for end in ends) else None

    def _index(self, key: str) -> None:
        kind, due = text(self._client.type(key)), "hash" if key.endswith(":tasks") else "zset"
        if kind not in (due, "none"):
            self.found.append(Problem("wrong-type", "", f"{key} is a {kind}"))
            return
        for name in map(text, self._client.hvals(key) if due == "hash" else self._client.zrange(key, 0, -1)):
            if key.startswith(self._schema.base(name) + ":"):
                self.pools.add(name)
            else:
                self.found.append(Problem("index-without-pool", name, f"it is in {key}, the index of other pools"))

    def _marker(self) -> None:
        kind = text(self._client.type(self._schema.marker))
        if kind != "string":
            self.found.append(Problem("wrong-type", "", f"{self._schema.marker} is a {kind}"))
            return
        try:
            check_version(self._schema, text(self._client.get(self._schema.marker)))
        except CachifyInitError as error:
            self.found.append(Problem("unknown-key", "", str(error)))

    def _mortal(self, keys: list[str]) -> None:
        for begin in range(0, len(keys), BATCH):
            some = keys[begin : begin + BATCH]
            pipe = self._client.pipeline(transaction=False)
            for key in some:
                pipe.pttl(key)
            for key, ttl in zip(some, pipe.execute(), strict=True):
                if ttl == -1:
                    self.found.append(Problem("immortal-key", "", f"{key} has no TTL"))
