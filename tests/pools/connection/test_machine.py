"""A Hypothesis state machine: whatever is done in whatever order, the pool's numbers are those of a simple model."""

import asyncio
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from cachify_tasks.pools import ConnectionPool, NotLent

from .kit import Conn, World, pending, turns


class PoolMachine(RuleBasedStateMachine):
    """The model: who holds what, who waits in which order. A place is free only while nobody waits."""

    lent = Bundle("lent")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.held: list[Conn] = []
        self.line: deque[asyncio.Task[Conn]] = deque()

    def run(self, work):
        return self.loop.run_until_complete(work)

    @initialize(minsize=st.integers(0, 2), maxsize=st.integers(2, 4), lifo=st.booleans(), checked=st.booleans())
    def start(self, minsize, maxsize, lifo, checked):
        world = self.world
        self.pool = ConnectionPool(
            world.amake,
            maxsize,
            minsize,
            healthchecker=world.acheck if checked else None,
            cleaner=world.aclose,
            lifo=lifo,
        )
        self.checked = checked
        self.run(self.pool.start())

    def settle(self):
        """Let all go on that can; whoever got a connection holds it."""

        async def rounds():
            while True:
                before = self.pool.stats()
                await turns(8)
                if self.pool.stats() == before and not self.pool._connections.tasks:
                    return

        self.run(rounds())

    @rule(target=lent)
    def acquire(self):
        async def ask():
            return asyncio.ensure_future(self.pool.acquire())

        task = self.run(ask())
        self.line.append(task)
        self.settle()
        self.serve()
        return task

    def serve(self):
        """Those in line got theirs from the front, and only as many as there are connections."""
        while self.line and self.line[0].done():
            task = self.line.popleft()
            conn = task.result()
            assert not [one for one in self.held if one is conn], "lent twice"
            assert not conn.closed
            self.held.append(conn)
        assert not any(task.done() for task in self.line), "overtaken"

    def drop(self, conn):
        self.held = [one for one in self.held if one is not conn]

    @rule(task=consumes(lent), sick=st.booleans())
    def release_or_leave(self, task, sick):
        if task.done():
            conn = task.result()
            conn.healthy = not sick
            self.drop(conn)
            self.run(self.pool.release(conn))
            if sick and self.checked:
                assert conn.closed
        else:
            task.cancel()
            self.line.remove(task)
        self.settle()
        self.serve()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release_twice(self, data):
        free = [conn for conn in self.world.made if not any(conn is one for one in self.held)]
        if free:
            with pytest.raises(NotLent):
                self.run(self.pool.release(data.draw(st.sampled_from(free))))

    @rule(minsize=st.integers(0, 2), maxsize=st.integers(2, 4))
    def resize(self, minsize, maxsize):
        self.run(self.pool.resize(minsize, maxsize))
        self.settle()
        self.serve()

    @rule()
    def renew(self):
        async def begin():
            draining = asyncio.ensure_future(self.pool.drain())
            await turns()
            draining.cancel()

        self.run(begin())
        self.settle()
        self.serve()

    @invariant()
    def numbers_agree(self):
        stats = self.pool.stats()
        assert stats.in_use == len(self.held)
        assert stats.waiting == len(self.line)
        assert stats.currsize == stats.available + stats.in_use == len(self.world.open)
        assert stats.currsize >= min(stats.minsize, stats.maxsize)
        assert stats.currsize <= max(stats.maxsize, len(self.held))
        assert not (stats.waiting and stats.available), "somebody waits while something is idle"
        assert not (stats.waiting and stats.currsize < stats.maxsize), "somebody waits at a free place"

    def teardown(self):
        async def end():
            await self.pool.stop()
            await asyncio.gather(*self.line, return_exceptions=True)
            for conn in self.held:
                await self.pool.release(conn)
            await turns()
            return pending(asyncio.get_running_loop())

        if hasattr(self, "pool"):
            assert not self.run(end())
            assert not self.world.open
            assert not self.pool._connections.tasks
        self.loop.close()


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPool = pytest.mark.timeout(300)(TestPool)
