"""A server with two sound pools, to be broken by raw commands."""

from __future__ import annotations

from typing import Any

from cachify_tasks import testing
from cachify_tasks._core.keys import PoolKeys, Schema
from cachify_tasks._store.records import SLOT, TICKET, TicketRecord
from cachify_tasks._store.redis_store import RedisStore
from tests.support.stores import Store

PREFIX = "t[-]*"  # what SCAN must take literally
SCHEMA = Schema(PREFIX)
BUSY, CALM = SCHEMA.pool("busy"), SCHEMA.pool("calm")
HOUR = 3_600_000_000  # µs


class Bench:
    """A server with two sound pools: "busy", a and b run, c and d wait; "calm", e runs, f has left."""

    def __init__(self, url: str, client: Any) -> None:
        self.url, self.client = url, client
        self.store = Store(RedisStore(PREFIX, url))
        self.tokens = {name: self.store.acquire(name, 2, pool="busy").token for name in "abcd"}
        self.tokens |= {name: self.store.plain(name, 3, pool="calm").token for name in "ef"}
        self.store.release("f", self.tokens["f"], pool="calm")
        self.now = int(client.time()[0]) * 1_000_000

    def found(self, **options: Any) -> list[testing.Problem]:
        return testing.check(self.url, prefix=PREFIX, **options)

    def edit(self, keys: PoolKeys, holder: str, number: int, value: object) -> None:
        """Change one part of a slot's record: 0 token, 1 request_id, 2 starter, 3 hard_limit."""
        parts = self.client.hget(keys.state, SLOT + holder).decode().split("|")
        parts[number] = str(value)
        self.client.hset(keys.state, SLOT + holder, "|".join(parts))

    def edit_ticket(self, keys: PoolKeys, holder: str, **changes: object) -> None:
        """Change parts of a ticket's record."""
        record = TicketRecord.decoded(self.client.hget(keys.tickets, TICKET + holder).decode())
        self.client.hset(keys.tickets, TICKET + holder, record._replace(**changes).encoded())  # type: ignore[arg-type]
