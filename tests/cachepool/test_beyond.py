"""Elements that grow old or break, and pools that are cleared or closed."""

from datetime import timedelta
from typing import Any

import pytest

from cachify_tasks.cachepool import CachePoolError


@pytest.fixture
def clock(monkeypatch):
    """Seconds on the pools' clock, moved by hand."""

    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    clock = Clock()
    for module in ("base", "threads", "coroutines"):
        monkeypatch.setattr(f"cachify_tasks.cachepool.{module}.monotonic", clock)
    return clock


def put_all(pool, elements):
    for element in elements:
        pool.put(element)


def test_an_element_that_was_idle_too_long_is_closed_instead_of_lent(things, clock):
    pool = things.pool(max_idle=10)
    put_all(pool, [pool.get() for _ in range(2)])

    clock.now += 10
    fresh = pool.get()

    assert fresh.number == 2
    assert things.open() == [2]
    assert pool.stat == {"new": 3, "get": 3, "put": 2}
    pool.put(fresh)


def test_an_element_that_was_idle_for_less_is_lent(things, clock):
    pool = things.pool(max_idle=timedelta(seconds=10))
    put_all(pool, [pool.get()])

    clock.now += 9.9

    assert pool.get().number == 0
    put_all(pool, things.made)


def test_the_time_while_it_was_lent_does_not_count(things, clock):
    pool = things.pool(max_idle=10)
    pool.put(pool.get())
    element = pool.get()
    clock.now += 60
    pool.put(element)

    clock.now += 5

    assert pool.get() is element
    pool.put(element)


@pytest.mark.parametrize("lifo", [False, True])
def test_put_closes_idle_elements_that_are_too_old(things, clock, lifo):
    pool = things.pool(max_idle=10, lifo=lifo)
    old, middle, new = (pool.get() for _ in range(3))
    pool.put(old)
    clock.now += 6
    pool.put(middle)

    clock.now += 6
    pool.put(new)

    assert things.open() == [middle.number, new.number]


@pytest.mark.parametrize("lifo", [False, True])
def test_prune_closes_idle_elements_that_are_too_old(things, clock, lifo):
    pool = things.pool(max_idle=10, lifo=lifo)
    elements = [pool.get() for _ in range(4)]
    put_all(pool, elements[:3])
    clock.now += 6
    put_all(pool, elements[3:])
    clock.now += 6

    assert pool.prune() == 3
    assert pool.prune() == 0
    assert things.open() == [3]


def test_prune_of_a_pool_without_max_idle_does_nothing(things):
    pool = things.pool()
    pool.put(pool.get())

    assert pool.prune() == 0
    assert pool.queue.qsize() == 1


def test_an_element_that_the_validator_refuses_is_closed_and_the_next_one_is_lent(things):
    pool = things.pool(validator=lambda thing: thing.number != 0)
    put_all(pool, [pool.get() for _ in range(2)])

    assert pool.get().number == 1

    assert things.open() == [1]
    assert pool.stat == {"new": 2, "get": 3, "put": 2}
    pool.put(things.made[1])


def test_a_new_element_is_not_validated(things):
    pool = things.pool(validator=lambda thing: pytest.fail("validated"))

    element = pool.get()

    things.pools.clear()
    pool.close(element)


def test_a_validator_that_raises_refuses(things):
    def validator(thing):
        raise OSError("gone")

    pool = things.pool(validator=validator)
    pool.put(pool.get())

    assert pool.get().number == 1

    assert things.open() == [1]
    pool.put(things.made[1])


def test_an_interrupted_validator_does_not_leak_the_element(things):
    def validator(thing):
        raise SystemExit

    pool = things.pool(validator=validator)
    pool.put(pool.get())

    with pytest.raises(SystemExit):
        pool.get()

    assert things.open() == []


def test_no_other_caller_gets_an_element_while_it_is_validated(things):
    inner: list[Any] = []

    def validator(thing):
        if thing.number == 0 and not inner:
            inner.append(pool.get() if things.loop is None else None)
        return True

    pool = things.pool(validator=validator)
    pool.put(pool.get())

    assert pool.get().number == 0

    assert things.loop or inner[0].number == 1
    put_all(pool, things.made)


def test_a_lifo_pool_lends_first_what_was_put_last(things):
    pool = things.pool(lifo=True)
    put_all(pool, [pool.get() for _ in range(3)])

    assert [pool.get().number for _ in range(3)] == [2, 1, 0]
    put_all(pool, things.made)


def test_put_to_a_full_lifo_pool_closes_the_element(things):
    pool = things.pool(lifo=True, pool_size=1)

    put_all(pool, [pool.get() for _ in range(2)])

    assert things.open() == [0]


def test_clear_closes_the_idle_elements_and_the_pool_goes_on(things):
    pool = things.pool()
    lent, *others = [pool.get() for _ in range(3)]
    put_all(pool, others)

    assert pool.clear() == 2

    assert things.open() == [lent.number]
    pool.put(lent)
    assert pool.get() is lent
    pool.put(lent)


def test_clear_closes_every_element_even_if_closing_one_fails(things):
    def close(thing):
        things.close(thing)
        if thing.number < 2:
            raise ValueError(thing.number)

    pool = things.pool(close_callback=close)
    put_all(pool, [pool.get() for _ in range(3)])

    with pytest.raises(ExceptionGroup, match="close_callback failed for 2 of 3 elements") as raised:
        pool.clear()

    assert [str(error) for error in raised.value.exceptions] == ["0", "1"]
    assert things.open() == []


def test_close_all_closes_idle_elements_now_and_lent_ones_as_they_come_back(things):
    pool = things.pool()
    idle, lent, broken = (pool.get() for _ in range(3))
    pool.put(idle)

    assert pool.close_all() == 1

    assert things.open() == [lent.number, broken.number]
    pool.put(lent)
    pool.close(broken)
    assert things.open() == []
    assert pool.close_all() == 0


def test_a_closed_pool_lends_nothing(things):
    pool = things.pool()
    pool.close_all()

    with pytest.raises(CachePoolError, match="the pool is closed"):
        pool.get()

    assert things.made == []


def test_the_repr_shows_the_state_of_the_pool(things):
    pool = things.pool()
    pool = getattr(pool, "pool", pool)

    assert "CachePool of" in repr(pool)
    assert "0 idle" in repr(pool)
