"""Acquires that wait for long, because nobody gives back."""

import asyncio
import functools

import pytest

from cachify_tasks.pools import PoolTimeout
from cachify_tasks.pools.connection import patience
from cachify_tasks.pools.connection.records import NO_ARGUMENTS
from cachify_tasks.pools.connection.waiters import Waiters
from tests.support.waiting import await_until

from .kit import full


class Clock:
    """Stands in for an event loop: its time moves when it is told to, and it remembers one timer."""

    def __init__(self):
        self.now = 0.0
        self.at: float | None = None

    def time(self):
        return self.now

    def call_at(self, at, callback, *args):
        self.at, self.fire = at, functools.partial(callback, *args)
        return self

    def cancel(self):
        self.at = None

    def go(self):
        """Move on to the timer."""
        assert self.at is not None
        self.now, self.at = self.at, None
        self.fire()


@pytest.fixture
def clock():
    return Clock()


def futures(waiters, *ends):
    made = [asyncio.get_running_loop().create_future() for _ in ends]
    waiters.queue.extend(zip(made, [NO_ARGUMENTS] * len(made), ends, strict=True))
    return made


async def test_a_wait_without_any_return_is_logged_once_in_a_while(world, caplog, monkeypatch):
    monkeypatch.setattr(patience, "STALLED_S", 0.01)
    async with full(world.pool(maxsize=2)) as (first, _), asyncio.TaskGroup() as tasks:
        pool = world.pools[-1]
        stalls = []

        def on_stall():
            stalls.append(1)
            pool._on_stall()

        monkeypatch.setattr(pool._patience, "_on_stall", on_stall)
        waiter = tasks.create_task(pool.acquire())

        await await_until(lambda: len(stalls) > 2)

        await pool.release(first)
        assert await waiter is first
    assert [record.getMessage() for record in caplog.records] == [
        "ConnectionPool of World.amake: no connection has come back for 0.01 s: 2 of 2 connections are lent, "
        "1 acquires wait; 0 are being made, 0 checked, 0 cleaned. leak_after=60 would log who has them"
    ]
    assert caplog.records[0].levelname == "WARNING"


async def test_while_acquires_are_served_nothing_stalls(clock):
    waiters: Waiters[object] = Waiters()
    stalls: list[float] = []
    watched = patience.Patience(waiters, lambda _: pytest.fail("too early"), lambda: stalls.append(clock.now))
    made = futures(waiters, *[float("inf")] * 3)
    watched.watch(clock)

    clock.now = 9.0
    waiters.queue.popleft()
    clock.at = watched.at
    clock.go()
    waiters.queue.popleft()
    clock.go()
    assert (stalls, clock.now) == ([], 20)

    clock.go()
    clock.go()
    assert stalls == [30, 40]
    for future in made:
        future.cancel()
    clock.go()
    assert (clock.at, watched.at) == (None, float("inf"))


async def test_the_timer_ends_each_wait_in_its_time(clock):
    waiters: Waiters[object] = Waiters()
    ended = []

    def end(future):
        ended.append((clock.now, future))
        future.set_exception(PoolTimeout())
        future.exception()
        waiters.on_done()

    watched = patience.Patience(waiters, end, pytest.fail)
    patient, first, second, third = futures(waiters, float("inf"), 3.0, 3.0, 5.0)
    watched.watch(clock)

    clock.go()
    assert ended == [(3, first), (3, second)]
    clock.go()
    assert ended[2:] == [(5, third)]
    patient.cancel()
    waiters.on_done()
    clock.go()

    assert (watched.at, waiters.live, len(waiters.queue)) == (float("inf"), 0, 0)
