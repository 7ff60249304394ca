"""The script that hands a slot over, with few and with very many tickets in its pool."""

from __future__ import annotations

import time

from cachify_tasks._core.commands import Acquire, Inspect, Release, StartReserved, Ticket
from cachify_tasks._store.redis_store import RedisStore

from .table import Row, Table

MANY = 1_000_000
CALLS = 1000
ROUNDS = 5
LEASE = 3_600_000


def bench_handover(table: Table, url: str) -> None:
    store = RedisStore("handover", url)
    for pool, count in (("few", 10), ("many", MANY)):
        _fill(store, pool, count)
    ratios, times = [], {"few": list[float](), "many": list[float]()}
    for _ in range(ROUNDS):
        worst = {pool: _p99(_handovers(store, pool)) for pool in times}
        ratios.append(worst["many"] / worst["few"])
        for pool, value in worst.items():
            times[pool].append(value)
    middle = {pool: sorted(values)[ROUNDS // 2] * 1e6 for pool, values in times.items()}
    what = f"hand-over, one trip, p99, {MANY:,} tickets in the pool / 10"
    table.add(Row(what, ratios, middle["many"], middle["few"], "us", 1.5))
    for pool in times:
        store.client.delete(*store.schema.pool(pool)[:4])
    store.close()


def _fill(store: RedisStore, pool: str, count: int) -> None:
    """A holder, and so many tickets behind it."""
    envelope = b"x" * 200
    for start in range(-1, count, 1000):
        asks = [_ask(pool, n, envelope) for n in range(start, min(start + 1000, count))]
        store.execute_many(asks)


def _ask(pool: str, n: int, envelope: bytes) -> Acquire:
    return Acquire(
        pool=pool, holder=f"id{n}:0", request_id=f"{n}", limit=1, lease_ms=LEASE, start_ms=LEASE, can_start_heirs=True,
        ticket=Ticket(kind="task/test", envelope=envelope) if envelope else None,
    )  # fmt: skip


def _start(pool: str, n: int) -> StartReserved:
    return StartReserved(
        pool=pool, holder=f"id{n}:0", request_id=f"{n}", limit=1, lease_ms=LEASE, start_ms=LEASE, can_start_heirs=True
    )


def _handovers(store: RedisStore, pool: str) -> list[float]:
    """Seconds of each release that hands over; the heir starts, and a new ticket comes, in between."""
    times = []
    view = store.execute(Inspect(pool))
    holder, token = view.holders[0].holder, view.holders[0].token
    for _ in range(CALLS):
        release = Release(
            pool=pool, holder=holder, token=token, request_id="", start_ms=LEASE, tomb_ms=1000, can_start_heirs=True
        )
        began = time.perf_counter()
        reply = store.execute(release)
        times.append(time.perf_counter() - began)
        (heir,) = reply.heirs
        number = int(heir.holder[2:-2])
        store.execute(_start(pool, number))
        store.execute(_ask(pool, number + 10_000_000, b"x" * 200))
        holder, token = heir.holder, heir.token
    return times


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]
