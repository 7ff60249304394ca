"""Many tasks on few connections, cancelled at every await: nothing is lost, nothing is lent twice."""

import asyncio
import contextlib
import os
import random
from collections import Counter

import pytest

from cachify_tasks.pools import ConnectionPool, PoolError, PoolShutDown, PoolTimeout

ACQUIRES = 300_000 if os.getenv("CACHIFY_CHAOS") == "full" else 12_000
TASKS = 60


class Wire:
    """Tells when two have it at once."""

    users = 0
    open = True
    sick = False


class Storm:
    def __init__(self, seed: int, *, checked: bool, lifo: bool) -> None:
        self.dice = random.Random(seed)
        self.made: list[Wire] = []
        self.counts: Counter[str] = Counter()
        self.most = 0
        self.wrong: list[str] = []
        self.pool = ConnectionPool(
            self.connect,
            maxsize=5,
            minsize=2,
            maxlife=0.05,
            healthchecker=self.check if checked else None,
            cleaner=self.close,
            max_idle=0.05,
            jitter=0.9,
            backoff=0.001,
            keepalive=0.02,
            lifo=lifo,
        )

    async def connect(self):
        for _ in range(self.dice.randrange(3)):
            await asyncio.sleep(0)
        if self.dice.random() < 0.05:
            self.counts["failed"] += 1
            raise ConnectionError
        wire = Wire()
        self.made.append(wire)
        self.made = [one for one in self.made if one.open]
        self.most = max(self.most, len(self.made))
        return wire

    def expect(self, right: bool, what: str) -> None:
        """The pool only logs what its functions raise, so that is told here."""
        if not right:
            self.wrong.append(what)

    async def check(self, wire):
        self.expect(wire.open and wire.users == 0, "one that is lent or closed was checked")
        wire.users += 1
        await asyncio.sleep(0)
        wire.users -= 1
        if self.dice.random() < 0.01:
            raise ConnectionError
        return not wire.sick

    async def close(self, wire):
        self.expect(wire.open and wire.users == 0, "one that is lent or closed was closed")
        wire.open = False
        await asyncio.sleep(0)
        if self.dice.random() < 0.1:
            raise ConnectionError

    async def one(self) -> None:
        """One acquire, cut off at a random await or not at all."""
        timeout = self.dice.choice([None, None, 0.0001, 0.01])
        async with self.pool.connection(_timeout_=timeout) as wire:
            assert wire.open
            wire.users += 1
            assert wire.users == 1
            try:
                for _ in range(self.dice.randrange(3)):
                    await asyncio.sleep(0)
                wire.sick = self.dice.random() < 0.02
            finally:
                wire.users -= 1
            self.counts["lent"] += 1

    async def worker(self) -> None:
        while self.counts["begun"] < ACQUIRES:
            self.counts["begun"] += 1
            task = asyncio.ensure_future(self.one())
            if self.dice.random() < 0.3:
                for _ in range(self.dice.randrange(12)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])
            if task.cancelled():
                self.counts["cancelled"] += 1
            elif isinstance(task.exception(), ConnectionError | PoolError):
                self.counts[type(task.exception()).__name__] += 1
            else:
                task.result()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("lifo", [False, True])
async def test_a_storm_loses_no_wake_up_lends_nothing_twice_and_leaks_nothing(checked, lifo):
    seed = random.randrange(10**9)
    print(f"seed {seed}")  # noqa: T201  # shown when the test fails
    storm = Storm(seed, checked=checked, lifo=lifo)
    pool = storm.pool
    while not pool.currsize:
        with contextlib.suppress(ConnectionError):  # its factory fails now and then
            await pool.start()
    async with pool:
        async with asyncio.timeout(500):
            await asyncio.gather(*(storm.worker() for _ in range(TASKS)))
        stats = pool.stats()

    assert not storm.wrong
    assert storm.counts["lent"] > ACQUIRES / 3
    assert storm.counts["cancelled"] > ACQUIRES / 100
    assert (stats.in_use, stats.waiting) == (0, 0)
    assert storm.most <= 5
    assert not [wire for wire in storm.made if wire.open]
    left = pool._connections
    assert (pool.currsize, len(left.expected), left.making, left.cleaning, left.checking, left.waiters.live) == (0,) * 6
    assert not left.tasks


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("seed", range(15))
async def test_a_stop_in_the_middle_of_a_storm_leaves_nobody_waiting_and_nothing_open(checked, seed):
    storm = Storm(seed, checked=checked, lifo=True)
    while not storm.pool.currsize:
        with contextlib.suppress(ConnectionError):
            await storm.pool.start()
    tasks = [asyncio.create_task(storm.one()) for _ in range(TASKS)]
    for _ in range(storm.dice.randrange(20)):
        await asyncio.sleep(0)

    await storm.pool.stop()

    async with asyncio.timeout(60):
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers} <= {type(None), PoolShutDown, PoolTimeout, ConnectionError}
    assert not storm.wrong
    assert not [wire for wire in storm.made if wire.open]
    assert (storm.pool.currsize, storm.pool.in_use, len(storm.pool._connections.tasks)) == (0, 0, 0)
