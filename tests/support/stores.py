"""A store whose time is moved by hand, and short names for its commands."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import redis

from cachify_tasks._core.commands import (
    Acquire,
    Command,
    Configure,
    Find,
    Inspect,
    PutBack,
    Release,
    Renew,
    Size,
    StartReserved,
    Sweep,
    Ticket,
    WaitInQueue,
    Withdraw,
)
from cachify_tasks._core.key_commands import Claim, Due, Locate, Pools, Postpone, TakePostponed
from cachify_tasks._core.replies import DuePools, Found, PoolView, Postponed, Reply
from cachify_tasks._store.memory_store import MemoryStore
from cachify_tasks._store.records import CHANNEL, ENVELOPE, TICKET, TicketRecord
from cachify_tasks._store.redis_store import RedisStore
from cachify_tasks.testing import rules
from cachify_tasks.testing.snapshot import from_memory, from_server
from tests.support.waiting import PATIENCE_S

KINDS = ("memory-sync", "memory-async", "redis-sync", "redis-async")
POOL = "tenant-a"
LEASE, START, TOMB = 30.0, 10.0, 300.0  # seconds, unless a test says otherwise
KIND = "task/test"
CHANNELS = "here", "there"  # of functions that wait
END = "all has been said"  # a channel
BEGIN = 1_800_000_000_000_000  # µs


class Store:
    """One of the stores, behind one of its faces, and its clock.

    The commands' short forms act for a worker that can park a task and start heirs; `plain` for a function that cannot.
    """

    def __init__(self, store: Any, *, is_async: bool = False, client: Any = None) -> None:
        self.store, self.client = store, client
        self.now = BEGIN
        self._runner = asyncio.Runner() if is_async else None
        self._request_ids = itertools.count(1)
        self._pubsub: Any = None
        self._notified: list[tuple[str, str, int]] = []

    def send(self, command: Command) -> Any:
        if self._runner is None:
            return self.store.execute(command)
        return self._runner.run(self.store.aexecute(command))

    def acquire(
        self, holder: str, limit: int = 1, *, park: bool = True, envelope: bytes | None = None, **options: Any
    ) -> Reply:
        """Ask as a worker does that can park the task; without an envelope the caller keeps its message."""
        ticket = {name: options.pop(name) for name in ("priority", "max_parked", "task_id") if name in options}
        kept = f"message of {holder}".encode() if envelope is None else envelope
        if kept:
            ticket.setdefault("task_id", holder.rpartition(":")[0])
            options["ticket"] = Ticket(kind=KIND, envelope=kept, park=park, **ticket)
        reply: Reply = self.send(Acquire(**self._request(holder, limit, {"can_start_heirs": True, **options})))
        return reply

    def plain(self, holder: str, limit: int = 1, **options: Any) -> Reply:
        """Ask as a function does, which neither parks nor starts heirs."""
        return self.acquire(holder, limit, **{"park": False, "can_start_heirs": False, "envelope": b"", **options})

    def start_reserved(self, holder: str, limit: int = 1, **options: Any) -> Reply:
        """Ask as a worker does that was hinted at a parked task."""
        reply: Reply = self.send(StartReserved(**self._request(holder, limit, {"can_start_heirs": True, **options})))
        return reply

    def wait(self, holder: str, limit: int = 1, *, channel: str = "here", **options: Any) -> Reply:
        """Ask as a function that waits in the queue."""
        reply: Reply = self.send(WaitInQueue(**self._request(holder, limit, {"channel": channel, **options})))
        return reply

    def _request(self, holder: str, limit: int, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "pool": POOL, "holder": holder, "request_id": f"rid{next(self._request_ids)}", "limit": limit,
            "lease_ms": round(LEASE * 1000), "start_ms": round(START * 1000), **options,
        }  # fmt: skip

    def renew(self, holder: str, token: int, *, pool: str = POOL, started: bool = False) -> Reply:
        reply: Reply = self.send(
            Renew(pool=pool, holder=holder, token=token, lease_ms=round(LEASE * 1000), started=started)
        )
        return reply

    def release(self, holder: str, token: int, *, pool: str = POOL, request_id: str = "none", **options: Any) -> Reply:
        options = {"can_start_heirs": True, "tomb_ms": round(TOMB * 1000), **options}
        reply: Reply = self.send(
            Release(
                pool=pool, holder=holder, token=token, request_id=request_id, start_ms=round(START * 1000), **options
            )
        )
        return reply

    def withdraw(self, holder: str, *, pool: str = POOL, can_start_heirs: bool = True) -> Reply:
        reply: Reply = self.send(
            Withdraw(
                pool=pool,
                holder=holder,
                start_ms=round(START * 1000),
                tomb_ms=round(TOMB * 1000),
                can_start_heirs=can_start_heirs,
            )
        )
        return reply

    def put_back(self, holder: str, token: int, *, pause: float = 0.0, **options: Any) -> Reply:
        """Do not start an heir. pause: seconds for which its ticket is put aside."""
        reply: Reply = self.send(
            PutBack(
                pool=POOL, holder=holder, token=token, start_ms=round(START * 1000), tomb_ms=round(TOMB * 1000),
                pause_ms=round(pause * 1000), **options,
            )
        )  # fmt: skip
        return reply

    def sweep(self, *, pool: str = POOL) -> Reply:
        reply: Reply = self.send(Sweep(pool=pool, start_ms=round(START * 1000)))
        return reply

    def configure(self, limit: int | None, *, pool: str = POOL, can_start_heirs: bool = False) -> Reply:
        reply: Reply = self.send(
            Configure(pool=pool, limit=limit, start_ms=round(START * 1000), can_start_heirs=can_start_heirs)
        )
        return reply

    def inspect(self, *, pool: str = POOL) -> PoolView:
        view: PoolView = self.send(Inspect(pool))
        return view

    def size(self, *, pool: str = POOL) -> int:
        return int(self.send(Size(pool)))

    def pools(self) -> list[str]:
        names: list[str] = self.send(Pools())
        return names

    def find(self, task: str, *, pool: str = POOL) -> str | None:
        found: list[Found] = self.send(Find(pool, ("nobody", task)))
        return found[0].holder if found else None

    def ticketed(self) -> list[str]:
        """Names of the pools that have tickets."""
        names: list[str] = self.send(Pools())
        return [name for name in names if self.tickets(pool=name)]

    def located(self, *tasks: str) -> dict[str, str]:
        found: dict[str, str] = self.send(Locate(tasks))
        return found

    def due(self) -> list[str]:
        due: DuePools = self.send(Due())
        return due.pools

    def postpone(self, name: str, message: bytes, seconds: float, *, queue: str = "q") -> None:
        self.send(Postpone(queue, name, message, round(seconds * 1000)))

    def take_postponed(self, *, limit: int = 10, hide: float = 30.0, queue: str = "q") -> Postponed:
        taken: Postponed = self.send(TakePostponed(queue, limit, round(hide * 1000)))
        return taken

    def claim(self, name: str, seconds: float) -> bool:
        claimed: bool = self.send(Claim(name, round(seconds * 1000)))
        return claimed

    def running(self) -> list[str]:
        return sorted(view.holder for view in self.inspect().holders if not view.reserved)

    def reserved(self) -> list[str]:
        return sorted(view.holder for view in self.inspect().holders if view.reserved)

    def envelopes(self, *, pool: str = POOL) -> dict[str, bytes]:
        """The messages that the store answers for; no command tells them."""
        if self.client is None:
            known = self.store._pools.get(pool)
            return dict(known.envelopes) if known else {}
        return dict(self._fields(pool, ENVELOPE))

    def tickets(self, *, pool: str = POOL) -> dict[str, TicketRecord]:
        """The records of all tickets."""
        if self.client is None:
            known = self.store._pools.get(pool)
            return dict(known.tickets) if known else {}
        return {holder: TicketRecord.decoded(value.decode()) for holder, value in self._fields(pool, TICKET)}

    def channels(self, *, pool: str = POOL) -> dict[str, str]:
        """The channels of the functions that wait."""
        if self.client is None:
            known = self.store._pools.get(pool)
            return dict(known.channels) if known else {}
        return {holder: value.decode() for holder, value in self._fields(pool, CHANNEL)}

    def _fields(self, pool: str, prefix: str) -> Iterator[tuple[str, bytes]]:
        for field, value in self.client.hgetall(self.store.schema.pool(pool).tickets).items():
            if field.decode().startswith(prefix):
                yield field.decode().removeprefix(prefix), value

    def ranks(self, *, pool: str = POOL) -> dict[str, float]:
        """The holders in the queue, and the ranks that order them."""
        if self.client is None:
            known = self.store._pools.get(pool)
            return dict(known.queue) if known else {}
        found = self.client.zrange(self.store.schema.pool(pool).queue, 0, -1, withscores=True)
        return {holder.decode(): rank for holder, rank in found}

    def problems(self) -> list[str]:
        """What the checker finds in the pool."""
        if self.client is None:
            (snapshot,) = [found for found in from_memory(self.store) if found.pool == POOL]
        else:
            snapshot = from_server(self.client, self.store.schema, POOL, str(self.now))
        return [str(problem) for problem in rules.problems(snapshot)]

    def due_at(self, *, pool: str = POOL) -> float | None:
        """When the index says that a reaper is due."""
        if self.client is None:
            known = self.store._pools.get(pool)
            return known.due if known and known.tickets else None
        score: float | None = self.client.zscore(self.store.schema.pool(pool).waiting, pool)
        return score

    def listen(self, *channels: str) -> None:
        """Collect the notifications of waiters from now on; `heard` returns them."""
        self._notified.clear()
        if self.client is None:
            for channel in channels:
                self.store.listen(channel, partial(self._on_wakeup, channel))
            return
        if self._pubsub is not None:
            self._pubsub.close()
        self._pubsub = self.client.pubsub()
        self._pubsub.subscribe(END, *channels)
        for _ in (END, *channels):
            assert self._pubsub.get_message(timeout=PATIENCE_S)

    def _on_wakeup(self, channel: str, holder: str, token: int) -> None:
        self._notified.append((channel, holder, token))

    def heard(self) -> list[tuple[str, str, int]]:
        """Channel, holder and token of each notification since the last look."""
        if self._pubsub is not None:
            self.client.publish(END, "")  # it comes after all that was said before
            while (message := self._pubsub.get_message(timeout=PATIENCE_S))["channel"] != END.encode():
                holder, _, token = message["data"].decode().rpartition(" ")
                self._on_wakeup(message["channel"].decode(), holder, int(token))
        notified, self._notified = self._notified, []
        return notified

    def later(self, seconds: float) -> None:
        """Let time pass, for the TTLs of Redis keys too."""
        self.now += round(seconds * 1_000_000)
        if self.client is not None:
            for key in self.client.scan_iter():
                left = self.client.pttl(key)
                if left > 0:
                    self.client.pexpire(key, max(left - round(seconds * 1000), 0))

    def forget(self) -> None:
        """Lose all data, as a server without persistence does."""
        if self.client is None:
            self.store._pools.clear()
            self.store._claims.clear()
        else:
            self.client.flushdb()

    def drain(self) -> None:
        """Withdraw whatever waits: from then on every key must have a life."""
        for pool in self.pools():
            for holder in self.tickets(pool=pool):
                self.withdraw(holder, pool=pool, can_start_heirs=False)

    def close(self) -> None:
        if self._pubsub is not None:
            self._pubsub.close()
        if self._runner is not None:
            self._runner.run(self.store.aclose())
            self._runner.close()
        self.store.close()


@contextmanager
def opened(kind: str, redis_url: str | None = None, memory: type[MemoryStore] = MemoryStore) -> Iterator[Store]:
    """A store of that kind (see KINDS); `memory` may be a class to use in place of MemoryStore."""
    made: list[Store] = []

    def clock() -> int:
        return made[0].now if made else BEGIN

    is_async = kind.endswith("async")
    if kind.startswith("memory"):
        made.append(Store(memory(clock), is_async=is_async))
        yield made[0]
        made[0].close()
        return
    assert redis_url is not None
    with redis.Redis.from_url(redis_url) as client:
        made.append(Store(RedisStore("t", redis_url, clock=clock), is_async=is_async, client=client))
        yield made[0]
        made[0].close()
