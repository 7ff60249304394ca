"""The documented behaviour, of the pool for threads and of the one for coroutines."""

import copy
import json
import pickle
from typing import Any

import pytest

from cachify_tasks.cachepool import (
    CachePool,
    CachePoolError,
    CachePoolGeneratorError,
    CacheWrapper,
    make_wrapper,
)


def test_an_empty_pool_calls_the_generator_with_its_arguments():
    given = []
    pool = CachePool(
        lambda *args, **argkw: given.append((args, argkw)),
        generator_args=[1, 2, "x"],
        generator_argkw={"key": "value"},
        close_callback=None,
        pool_size=512,
    )

    pool.get()

    assert given == [((1, 2, "x"), {"key": "value"})]


def test_documented_arguments_may_be_positional():
    closed: list[object] = []
    pool = CachePool(lambda *args, **argkw: [*args, argkw], [1], {"a": 2}, closed.append, 1)
    first, second = pool.get(), pool.get()

    pool.put(first)
    pool.put(second)

    assert first == [1, {"a": 2}]
    assert closed == [second]
    pool.clear()


def test_arguments_that_python_cannot_pass_raise_when_an_element_is_made():
    pool = CachePool(lambda **argkw: argkw, generator_argkw={(1, 2): "1 and 2"})

    with pytest.raises(TypeError, match="keywords must be strings"):
        pool.get()

    assert pool.stat == {"new": 0, "get": 0, "put": 0}


def test_an_element_that_was_put_is_lent_again(things):
    pool = things.pool()
    element = pool.get()

    pool.put(element)

    assert pool.get() is element
    assert len(things.made) == 1
    pool.put(element)


def test_no_other_caller_gets_a_lent_element(things):
    pool = things.pool()
    for element in [pool.get() for _ in range(3)]:
        pool.put(element)

    lent = [pool.get() for _ in range(4)]

    assert len({id(element) for element in lent}) == 4
    for element in lent:
        pool.put(element)


def test_the_element_that_was_put_first_is_lent_first(things):
    pool = things.pool()
    for element in [pool.get() for _ in range(3)]:
        pool.put(element)

    numbers = [pool.get().number for _ in range(3)]

    assert numbers == [0, 1, 2]
    for element in things.made:
        pool.put(element)


def test_put_to_a_full_pool_closes_the_element_and_is_not_counted(things):
    pool = things.pool(pool_size=2)
    lent = [pool.get() for _ in range(3)]

    for element in lent:
        pool.put(element)

    assert [element.closed for element in lent] == [False, False, True]
    assert pool.queue.qsize() == 2
    assert pool.stat == {"new": 3, "get": 3, "put": 2}


def test_a_full_pool_without_close_callback_drops_the_element():
    pool = CachePool(object, pool_size=1)
    first, second = pool.get(), pool.get()
    pool.put(first)

    pool.put(second)

    assert (pool.get(), pool.queue.qsize()) == (first, 0)


@pytest.mark.parametrize("size", [0, -1])
def test_zero_or_less_is_no_limit(things, size):
    pool = things.pool(pool_size=size)

    for element in [pool.get() for _ in range(1500)]:
        pool.put(element)

    assert pool.queue.qsize() == 1500


def test_a_pool_keeps_1024_by_default(things):
    pool = things.pool()

    for element in [pool.get() for _ in range(1025)]:
        pool.put(element)

    assert pool.queue.qsize() == 1024


def test_close_closes_and_is_not_counted(things):
    pool = things.pool()
    element = pool.get()

    pool.close(element)

    assert element.closed
    assert pool.stat == {"new": 1, "get": 1, "put": 0}
    assert pool.queue.qsize() == 0


def test_stat_is_live_and_has_three_numbers(things):
    pool = things.pool()
    stat = pool.stat
    assert stat == {"new": 0, "get": 0, "put": 0}

    for _ in range(3):
        pool.put(pool.get())

    assert stat == {"new": 1, "get": 3, "put": 3}
    assert (stat["new"], stat.get("get"), list(stat), len(stat)) == (1, 3, ["new", "get", "put"], 3)
    assert copy.deepcopy(stat) == pickle.loads(pickle.dumps(stat)) == stat.copy()
    assert dict(stat) == {**stat} == json.loads(json.dumps(stat)) == stat.copy() == {} | stat == stat | {}
    assert repr(stat) == "{'new': 1, 'get': 3, 'put': 3}"
    assert sum(stat.values()) == 7
    assert not stat != {"new": 1, "get": 3, "put": 3}  # noqa: SIM202  # `!=` is what is tested
    with pytest.raises(TypeError, match="only be read"):
        stat["new"] = 0


def test_stat_counts_closed_and_forgotten_elements(things):
    pool = things.pool()
    pool.put(pool.get())
    pool.close(pool.get())
    forgotten = pool.get()
    things.forgotten = [forgotten.number]
    things.made[forgotten.number] = type(forgotten)(forgotten.number)

    del forgotten

    assert pool.stat == {"new": 2, "get": 3, "put": 1}


def test_an_error_of_the_generator_reaches_the_caller_and_nothing_is_counted(things):
    class Broken(Exception):
        pass

    def generator():
        raise Broken

    pool = things.pool(generator)

    with pytest.raises(Broken) as raised:
        pool.get()

    assert raised.value.__context__ is None
    assert pool.stat == {"new": 0, "get": 0, "put": 0}


def test_a_generator_that_is_not_callable_is_refused():
    with pytest.raises(CachePoolGeneratorError) as raised:
        CachePool(7)  # type: ignore[arg-type]

    assert str(raised.value) == "generator is not callable"
    assert "7" in raised.value.__notes__[0]
    assert issubclass(CachePoolGeneratorError, CachePoolError)


def test_the_wrapper_lends_an_element_and_puts_it_back(things):
    pool = things.pool()
    wrapper = things.wrapper(pool)

    with wrapper as element:
        assert not element.closed

    assert pool.queue.qsize() == 1
    assert pool.stat == {"new": 1, "get": 1, "put": 1}


def test_the_wrapper_has_an_element_in_the_block_only():
    wrapper: Any = CacheWrapper(CachePool(object))
    assert wrapper.element is None

    with wrapper as element:
        assert wrapper.element is element

    assert wrapper.element is None


@pytest.mark.parametrize("reuse", [True, False, None, 0, "yes"])
def test_the_decider_decides_whether_an_element_is_reused_after_an_error(things, reuse):
    errors = []

    def decider(*error):
        errors.append(error)
        return reuse

    pool = things.pool()
    error = KeyError("x")

    with pytest.raises(KeyError) as raised, things.wrapper(pool, decider) as element:
        raise error

    assert raised.value is error
    assert errors[0][:2] == (KeyError, error)
    assert errors[0][2] is not None
    assert element.closed is not bool(reuse)
    assert pool.queue.qsize() == bool(reuse)


def test_without_a_decider_an_error_closes_the_element(things):
    pool = things.pool()

    with pytest.raises(KeyError), things.wrapper(pool) as element:
        raise KeyError

    assert element.closed


def test_the_decider_is_not_called_without_an_error(things):
    with things.wrapper(things.pool(), lambda *error: pytest.fail("called")):
        pass


def test_make_wrapper_returns_a_function_that_makes_wrappers():
    pool = CachePool(object)
    wrapper = make_wrapper(pool, reuse_decider=lambda *error: True)
    assert isinstance(wrapper(), CacheWrapper)

    with pytest.raises(KeyError), wrapper() as element:
        raise KeyError

    assert pool.get() is element


def test_the_errors_share_a_root():
    assert issubclass(CachePoolError, Exception)
    assert issubclass(CachePoolGeneratorError, CachePoolError)
