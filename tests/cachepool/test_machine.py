"""Any order of calls, against a model of a few lines."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cachify_tasks.cachepool import CachePoolError
from tests.cachepool.things import Thing, Things


class Machine(RuleBasedStateMachine):
    kind = "threads"

    def __init__(self):
        super().__init__()
        self.things = Things(self.kind)
        self.idle: list[Thing] = []
        self.lent: list[Thing] = []
        self.stat = {"new": 0, "get": 0, "put": 0}

    @initialize(size=st.integers(-1, 4), lifo=st.booleans())
    def begin(self, size, lifo):
        self.size, self.lifo = size, lifo
        self.bad: set[int] = set()
        self.pool = self.things.pool(pool_size=size, lifo=lifo, validator=lambda thing: thing.number not in self.bad)

    def next_idle(self):
        return self.idle.pop(-1 if self.lifo else 0)

    @rule()
    def get(self):
        element = self.pool.get()

        expected = None
        while self.idle and expected is None:
            expected = self.next_idle()
            if expected.number in self.bad:
                assert expected.closed
                expected = None
        assert (element is expected) if expected else (element is self.things.made[-1])
        self.stat["new"] += expected is None
        self.stat["get"] += 1
        self.lent.append(element)

    @rule(data=st.data())
    def put(self, data):
        if not self.lent:
            return
        element = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))
        self.pool.put(element)

        kept = self.size <= 0 or len(self.idle) < self.size
        assert element.closed is not kept
        if kept:
            self.idle.append(element)
            self.stat["put"] += 1

    @rule(data=st.data())
    def close(self, data):
        if self.lent:
            element = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))
            self.pool.close(element)
            assert element.closed

    @rule(data=st.data(), back=st.sampled_from(["put", "close"]))
    def return_again(self, data, back):
        others = [thing for thing in self.things.made if not any(thing is one for one in self.lent)]
        if others:
            element = others[data.draw(st.integers(0, len(others) - 1))]
            with pytest.raises(CachePoolError):
                getattr(self.pool, back)(element)

    @rule(reuse=st.booleans(), fails=st.booleans())
    def wrap(self, reuse, fails):
        self.get()
        element = self.lent.pop()
        self.pool.put(element)  # so that the wrapper lends an element whose fate the model knows
        kept = self.size <= 0 or len(self.idle) < self.size
        self.stat["put"] += kept
        if kept:
            self.idle.append(element)
        try:
            with self.things.wrapper(self.pool, lambda *error: reuse) as element:
                if fails:
                    raise KeyError
        except KeyError:
            assert fails
        while self.idle:
            expected = self.next_idle()
            if expected.number not in self.bad:
                assert expected is element
                break
        else:
            self.stat["new"] += 1
        self.stat["get"] += 1
        if not fails or reuse:
            self.idle.append(element)
            self.stat["put"] += 1
        else:
            assert element.closed

    @rule(data=st.data())
    def break_one(self, data):
        if self.idle:
            self.bad.add(self.idle[data.draw(st.integers(0, len(self.idle) - 1))].number)

    @rule()
    def clear(self):
        assert self.pool.clear() == len(self.idle)
        assert all(thing.closed for thing in self.idle)
        self.idle.clear()

    @invariant()
    def agrees(self):
        if hasattr(self, "pool"):
            assert self.pool.stat == self.stat
            assert self.pool.queue.qsize() == len(self.idle)
            assert len(self.things.open()) == len(self.idle) + len(self.lent)

    def teardown(self):
        for element in self.lent:
            self.pool.close(element)
        self.things.end()


class AsyncMachine(Machine):
    kind = "coroutines"


@pytest.mark.parametrize("machine", [Machine, AsyncMachine])
def test_any_order_of_calls_gives_what_the_model_says(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
