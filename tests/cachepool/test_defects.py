"""Defects of other pools of this kind, which this one does not have."""

import gc
import threading
import weakref

import pytest

from cachify_tasks.cachepool import CachePool, CachePoolError, CacheWrapper


def test_a_decider_that_raises_does_not_leak_the_element(things):
    def decider(*error):
        raise ValueError("no idea")

    pool = things.pool()
    body = KeyError("body")

    with pytest.raises(KeyError) as raised, things.wrapper(pool, decider) as element:
        raise body

    assert element.closed
    assert raised.value is body
    assert raised.value.__context__ is None
    assert "reuse_decider failed" in raised.value.__notes__[0]


def test_an_interrupted_decider_does_not_leak_the_element(things):
    def decider(*error):
        raise SystemExit(3)

    with pytest.raises(SystemExit), things.wrapper(things.pool(), decider) as element:
        raise KeyError

    assert element.closed


def test_a_close_callback_that_raises_does_not_hide_the_error_of_the_block(things):
    def close(thing):
        things.close(thing)
        raise ValueError("close")

    pool = things.pool(close_callback=close)

    with pytest.raises(KeyError) as raised, things.wrapper(pool):
        raise KeyError

    assert "could not be closed: ValueError('close')" in raised.value.__notes__[0]


def test_a_wrapper_that_is_entered_twice_returns_both_elements(things):
    pool = things.pool()
    wrapper = things.wrapper(pool)

    with wrapper as outer:
        with wrapper as inner:
            assert inner is not outer
        assert pool.queue.qsize() == 1

    assert pool.queue.qsize() == 2
    assert [pool.get().number, pool.get().number] == [inner.number, outer.number]
    for element in (inner, outer):
        pool.put(element)


def test_threads_in_one_wrapper_have_an_element_each():
    wrapper = CacheWrapper(CachePool(object))
    inside, leave = threading.Event(), threading.Event()
    seen: list[object] = []

    def other():
        with wrapper as element:
            seen.append(element)
            inside.set()
            leave.wait(10)
            seen.append(wrapper.element)

    thread = threading.Thread(target=other)
    with wrapper as mine:
        thread.start()
        inside.wait(10)
        assert wrapper.element is mine
    leave.set()
    thread.join()

    assert seen[0] is seen[1]
    assert seen[0] is not mine


def test_a_wrapper_that_is_left_in_another_thread_returns_its_element(things):
    pool = CachePool(things.make, close_callback=things.close)
    things.pools.append(pool)
    wrapper = CacheWrapper(pool)
    wrapper.__enter__()

    thread = threading.Thread(target=wrapper.__exit__, args=(None, None, None))
    thread.start()
    thread.join()

    assert pool.queue.qsize() == 1
    with pytest.raises(CachePoolError, match="more often than it was entered"):
        wrapper.__exit__(None, None, None)


def test_an_element_that_is_put_twice_is_not_lent_twice(things):
    pool = things.pool()
    element = pool.get()
    pool.put(element)

    with pytest.raises(CachePoolError, match=r"Thing\(0\) was returned already: it is idle"):
        pool.put(element)

    assert pool.queue.qsize() == 1
    assert pool.stat["put"] == 1


def test_a_second_put_is_refused_also_when_the_pool_is_full(things):
    pool = things.pool(pool_size=1)
    first, second = pool.get(), pool.get()
    pool.put(first)
    pool.put(second)

    with pytest.raises(CachePoolError, match=r"Thing\(1\) is not lent out by this pool"):
        pool.put(second)


@pytest.mark.parametrize("back", ["put", "close"])
def test_an_element_of_another_pool_is_refused(things, back):
    pool, other = things.pool(), things.pool()
    foreign = other.get()

    with pytest.raises(CachePoolError, match=r"Thing\(0\) is not lent out by this pool.* get\(\) has given, once"):
        getattr(pool, back)(foreign)

    assert not foreign.closed
    other.put(foreign)


@pytest.mark.parametrize("back", ["put", "close"])
def test_a_closed_element_is_refused(things, back):
    pool = things.pool()
    element = pool.get()
    pool.close(element)

    with pytest.raises(CachePoolError, match="is not lent out"):
        getattr(pool, back)(element)


def test_an_idle_element_cannot_be_closed_by_the_caller_that_returned_it(things):
    pool = things.pool()
    element = pool.get()
    pool.put(element)

    with pytest.raises(CachePoolError, match="was returned already"):
        pool.close(element)

    assert not element.closed


def test_the_refusal_has_no_context(things):
    with pytest.raises(CachePoolError) as raised:
        things.pool().put(object())

    assert raised.value.__context__ is None


def test_an_error_of_the_close_callback_has_no_context_and_the_element_is_gone(things):
    def close(thing):
        things.close(thing)
        raise ValueError

    pool = things.pool(close_callback=close, pool_size=1)
    first, second = pool.get(), pool.get()
    pool.put(first)

    with pytest.raises(ValueError) as raised:  # noqa: PT011  # it has no message
        pool.put(second)

    assert raised.value.__context__ is None
    assert pool.stat == {"new": 2, "get": 2, "put": 1}
    things.pools.clear()
    with pytest.raises(ExceptionGroup, match="close_callback failed for 1 of 1"):
        pool.close_all()


def test_an_element_that_its_user_forgets_is_collected_and_its_id_is_not_kept():
    class Element:
        pass

    pool = CachePool(Element)
    element = pool.get()
    gone = weakref.ref(element)

    del element
    gc.collect()

    assert gone() is None
    assert not pool._records.known
    assert pool.stat == {"new": 1, "get": 1, "put": 0}


def test_an_object_at_the_address_of_a_forgotten_element_is_foreign():
    class Element:
        pass

    pool = CachePool(Element)
    for _ in range(100):
        pool.get()
        other = Element()

        with pytest.raises(CachePoolError, match="is not lent out"):
            pool.put(other)


def test_many_forgotten_elements_are_counted_and_leave_nothing_behind():
    class Element:
        pass

    pool = CachePool(Element)

    for _ in range(100):
        pool.put(pool.get())
        pool.get()

    assert pool.stat == {"new": 100, "get": 200, "put": 100}
    assert not pool._records.known
    assert not pool._records._collected


def test_an_element_may_be_forgotten_by_a_thread_while_another_reads_stat():
    class Element:
        pass

    pool = CachePool(Element)
    element = [pool.get()]

    with pool._records.lock:
        thread = threading.Thread(target=element.clear)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()

    assert pool.stat == {"new": 1, "get": 1, "put": 0}


def test_a_generator_may_give_one_object_many_times_and_each_is_returned_once():
    pool = CachePool(lambda: "shared")
    lent = [pool.get() for _ in range(3)]
    for element in lent:
        pool.put(element)

    with pytest.raises(CachePoolError, match="was returned already"):
        pool.put("shared")

    assert pool.stat == {"new": 3, "get": 3, "put": 3}
    assert [pool.get(), pool.get()] == ["shared", "shared"]
    pool.close("shared")
    assert pool.stat == {"new": 3, "get": 5, "put": 3}
    pool.put("shared")
    assert pool.queue.qsize() == 2
    assert pool.clear() == 2
    assert pool.stat == {"new": 3, "get": 5, "put": 4}


def test_a_pool_that_is_dropped_drops_its_elements_at_once():
    class Element:
        pass

    pool = CachePool(Element)
    element = pool.get()
    gone = weakref.ref(element)
    pool.put(element)
    del element

    gc.disable()
    try:
        del pool
        assert gone() is None
    finally:
        gc.enable()
