"""The general pool: `pool` and `@pooled`, on memory and on Redis."""

import asyncio
import contextvars
import functools
import inspect
import logging
import threading
from typing import Any

import pytest

from cachify_tasks import (
    CachedFallback,
    CachifyError,
    CachifyInitError,
    CachifyPoolFullError,
    Callback,
    Drop,
    Raise,
    Reschedule,
    current_slot,
    init_cachify,
    pool,
    pooled,
)
from cachify_tasks._io import noise
from cachify_tasks._io.engine import set_global_engine
from tests.support.meddling import interrupting, meddled
from tests.support.waiting import wait_until

# The context manager


def test_a_pool_holds_a_slot_while_it_is_entered(cachify):
    p = pool("p", max_size=2)
    assert p.size() == 0

    with p as slot:
        assert p.size() == 1
        assert slot.key == "p"
        assert current_slot() is slot
    assert p.size() == 0


async def test_a_pool_holds_a_slot_while_it_is_entered_in_an_event_loop(cachify):
    p = pool("p", max_size=2)

    async with p as slot:
        assert await p.asize() == 1
        assert current_slot() is slot
        await slot.acheck()
    assert await p.asize() == 0


def test_a_full_pool_raises_and_says_what_to_do(cachify):
    with (
        pool("p", max_size=1),
        pytest.raises(CachifyPoolFullError, match=r"'p' is full: 1 of 1 .*raise max_size") as caught,
        pool("p", max_size=1),
    ):
        pass

    assert (caught.value.key, caught.value.limit, caught.value.held) == ("p", 1, 1)


def test_pools_of_one_name_are_one_pool_however_they_are_made(cachify):
    @pooled("tenant-{t}", max_size=1)
    def work(t):
        return "ran"

    with pool("tenant-a", max_size=1):
        assert work("a") is None
        assert work("b") == "ran"
        assert work.size("a") == cachify.pool("tenant-a", 1).size() == 1


def test_a_slot_in_a_slot_is_current_until_it_is_left(cachify):
    p = pool("p", max_size=2)
    with p as outer:
        with p as inner:
            assert current_slot() is inner
            assert inner.token > outer.token
        assert current_slot() is outer

    with pytest.raises(CachifyError, match="no current slot"):
        current_slot()


def test_a_pool_that_is_left_without_being_entered_says_so(cachify):
    with pytest.raises(RuntimeError, match="'p' is left more often than it was entered"):
        pool("p", max_size=1).__exit__(None, None, None)


def test_a_pools_key_is_used_as_it_is(cachify):
    p = pool("{braces}", max_size=1)

    @p.pooled()
    def work(anything):
        return p.size()

    assert work(1) == 1
    with p:
        assert work(1) is None


def test_the_slot_is_freed_in_the_store_that_granted_it(cachify):
    p = pool("p", max_size=1)
    with p:
        init_cachify()
    set_global_engine(cachify._engine)

    assert p.size() == 0


def test_a_pool_before_init_cachify_says_what_is_missing(monkeypatch):
    set_global_engine(None)
    monkeypatch.setattr("cachify_tasks._io.engine.suppliers", [])  # no Celery app of another test
    p = pool("p", max_size=1)

    @pooled("p", max_size=1)
    def work(): ...

    for use in (p.size, p.__enter__, work, work.size):
        with pytest.raises(CachifyInitError, match="did you forget to call `init_cachify`"):
            use()


def test_a_pool_bound_to_an_instance_needs_no_global_one():
    set_global_engine(None)
    mine = init_cachify(is_global=False)

    @mine.pooled("p", max_size=1)
    def work():
        return mine.pool("p", max_size=1).size()

    assert work() == 1


# The decorator


def test_the_default_answer_of_a_full_pool_is_none(cachify):
    @pooled("p", max_size=1)
    def work():
        return "ran"

    assert work() == "ran"
    with pool("p", max_size=1):
        assert work() is None


async def test_the_default_answer_of_a_full_pool_is_none_for_coroutines_too(cachify):
    @pooled("p", max_size=1)
    async def work():
        return "ran"

    assert await work() == "ran"
    async with pool("p", max_size=1):
        assert await work() is None
        assert await work.size() == 1


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Raise(), "1 of 1 slots are taken"),
        (Reschedule(), "1 of 1 slots are taken; it can be rescheduled only by a worker"),
        (CachedFallback(), "1 of 1 slots are taken; there is no earlier result of this call, and no default"),
    ],
    ids=["raise", "reschedule", "fallback without a result"],
)
def test_strategies_that_cannot_answer_raise_and_tell_why(cachify, strategy, message):
    @pooled("p", max_size=1, on_full=strategy)
    def work(): ...

    with pool("p", max_size=1), pytest.raises(CachifyPoolFullError, match=message):
        work()


def test_raise_on_full_beats_on_full(cachify):
    @pooled("p", max_size=1, on_full=lambda: "instead", raise_on_full=True)
    def work(): ...

    with pool("p", max_size=1), pytest.raises(CachifyPoolFullError):
        work()


@pytest.mark.parametrize(("strategy", "answer"), [(Drop(), None), (Drop(result=7), 7), (None, None)])
def test_a_dropped_call_answers_what_was_chosen(cachify, strategy, answer):
    @pooled("p", max_size=1, on_full=strategy)
    def work(): ...

    with pool("p", max_size=1):
        assert work() == answer


@pytest.mark.parametrize("wrap", [lambda f: f, Callback], ids=["callable", "Callback"])
def test_a_callback_gets_exactly_the_callers_arguments(cachify, wrap):
    @pooled("p", max_size=1, on_full=wrap(lambda *args, **kwargs: (args, kwargs)))
    def work(a, b=2, *rest, kwargs=3): ...

    with pool("p", max_size=1):
        assert work(1) == ((1,), {})
        assert work(1, b=5, kwargs={"x": 1}) == ((1,), {"b": 5, "kwargs": {"x": 1}})


def test_a_callback_gets_objects_that_only_look_like_a_task(cachify):
    class Pool:
        def apply_async(self): ...

        def run(self): ...

    workers = Pool()

    @pooled("p", max_size=1, on_full=lambda *args: args)
    def work(workers, n): ...

    with pool("p", max_size=1):
        assert work(workers, 1) == (workers, 1)


async def test_a_coroutine_callback_is_awaited(cachify):
    async def instead(n):
        await asyncio.sleep(0)
        return n

    @pooled("p", max_size=1, on_full=instead)
    async def work(n): ...

    async with pool("p", max_size=1):
        assert await work(4) == 4


async def test_a_plain_callback_of_a_coroutine_function_is_called(cachify):
    @pooled("p", max_size=1, on_full=lambda n: n)
    async def work(n): ...

    async with pool("p", max_size=1):
        assert await work(4) == 4


def test_a_callbacks_errors_are_the_calls(cachify):
    @pooled("p", max_size=1, on_full=lambda: 1 / 0)
    def work(): ...

    with pool("p", max_size=1), pytest.raises(ZeroDivisionError):
        work()


@pytest.mark.leaks("keys", reason="last good results without a ttl")
def test_the_last_good_result_is_that_of_the_same_call(cachify):
    results = iter(["first", "second", "other"])

    @pooled("p", max_size=1, on_full=CachedFallback(default="none yet"))
    def work(word, flag=False):
        return next(results)

    work("a")
    work("a")
    work("b")

    with pool("p", max_size=1):
        assert work("a") == work(word="a", flag=False) == "second"
        assert work("b") == "other"
        assert work("c") == "none yet"


@pytest.mark.leaks("keys", reason="a last good result without a ttl")
def test_a_result_may_be_named_by_a_key(cachify):
    @pooled("p", max_size=1, on_full=CachedFallback(key="{word}"))
    def work(word, unpicklable):
        return None

    work("a", lambda: 1)

    with pool("p", max_size=1):
        assert work("a", lambda: 2) is None
        with pytest.raises(CachifyPoolFullError, match="no earlier result"):
            work("b", lambda: 2)


def test_arguments_that_cannot_tell_calls_apart_are_an_error_before_the_run(cachify):
    ran = []

    @pooled("p", max_size=1, on_full=CachedFallback(ttl=5))
    def work(function):
        ran.append(1)

    with pytest.raises(TypeError, match=r"cannot be pickled.*CachedFallback\(key="):
        work(lambda: 1)
    assert ran == []
    assert work.size(None) == 0


def test_a_result_that_cannot_be_pickled_is_returned_and_said_once(cachify, caplog):
    @pooled("p", max_size=1, on_full=CachedFallback(ttl=5))
    def work():
        return threading.Lock()

    assert work() is not None
    assert work() is not None
    assert caplog.text.count("cannot be pickled and is not kept") == 1


def test_the_body_sees_its_slot(cachify):
    @pooled("p", max_size=1)
    def work():
        current_slot().check()
        return current_slot().key

    assert work() == "p"


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_the_bodys_exception_comes_out_as_it_is_and_the_slot_is_free(cachify, error):
    @pooled("p", max_size=1)
    def work():
        raise error

    with pytest.raises(type(error)) as caught:
        work()

    assert caught.value is error
    assert work.size() == 0
    with pytest.raises(type(error)) as caught, pool("p", max_size=1):
        raise error
    assert caught.value is error
    assert work.size() == 0


def test_a_wrapped_function_keeps_its_face(cachify):
    def original(a: int, *, b: str = "x") -> str:
        """What it does."""
        return b

    work: Any = pooled("p-{a}", max_size=1)(original)

    assert (work.__name__, work.__doc__, str(inspect.signature(work))) == (
        "original", "What it does.", "(a: int, *, b: str = 'x') -> str",
    )  # fmt: skip
    assert not inspect.iscoroutinefunction(work)


async def test_a_coroutine_function_stays_one(cachify):
    @pooled("p", max_size=1)
    async def work(): ...

    class Callable:
        async def __call__(self):
            return await pool("p", max_size=1).asize()

    assert inspect.iscoroutinefunction(work)
    assert await pooled("p", max_size=1)(Callable())() == 1
    assert await pooled("p", max_size=1)(functools.partial(Callable.__call__, Callable()))() == 1


def test_methods_of_all_kinds_can_be_pooled(cachify):
    class Tenant:
        name = "of the class"

        @pooled("tenant-{self.name}", max_size=1)
        def own(self):
            return pool("tenant-of the class", max_size=1).size()

        @classmethod
        @pooled("tenant-{cls.name}", max_size=1)
        def of_class(cls):
            return pool("tenant-of the class", max_size=1).size()

        @staticmethod
        @pooled("tenant-{name}", max_size=1)
        def free(name):
            return pool(f"tenant-{name}", max_size=1).size()

        @property
        @pooled("tenant-{self.name}", max_size=1)
        def value(self):
            return 5

    tenant = Tenant()
    assert (tenant.own(), tenant.of_class(), Tenant.of_class(), tenant.free("n"), tenant.value) == (1, 1, 1, 1, 5)


@pytest.mark.parametrize("wrap", [staticmethod, classmethod, property])
def test_a_decorator_above_a_method_kind_says_where_it_belongs(wrap):
    with pytest.raises(TypeError, match="put it below @classmethod, @staticmethod and @property"):
        pooled("p", max_size=1)(wrap(lambda: None))


def test_two_decorators_can_be_stacked(cachify):
    @pooled("outer", max_size=1)
    @pooled("inner-{n}", max_size=1)
    def work(n):
        return pool("outer", max_size=1).size(), pool("inner-1", max_size=1).size()

    assert work(1) == (1, 1)
    with pool("inner-1", max_size=1):
        assert work(1) is None
        assert work.size(1) == 0


def test_a_context_of_its_own_sees_no_slot_of_others(cachify):
    with pool("p", max_size=1):
        assert contextvars.Context().run(lambda: pool("p", max_size=1).size()) == 1
        with pytest.raises(CachifyError):
            contextvars.Context().run(current_slot)


# Generators


def test_a_generator_holds_its_slot_until_it_is_exhausted(cachify):
    @pooled("p", max_size=1)
    def numbers(n):
        yield from range(n)
        return "the end"

    def consumer():
        return (yield from numbers(2))

    items = numbers(2)
    assert numbers.size(2) == 0
    assert next(items) == 0
    assert numbers.size(2) == 1
    assert list(items) == [1]
    assert numbers.size(2) == 0

    consuming = consumer()
    assert [next(consuming), next(consuming)] == [0, 1]
    with pytest.raises(StopIteration) as stop:
        next(consuming)
    assert stop.value.value == "the end"


def test_a_generator_holds_its_slot_until_it_is_closed(cachify):
    seen = []

    @pooled("p", max_size=1)
    def numbers():
        try:
            yield 1
        finally:
            seen.append(pool("p", max_size=1).size())

    items = numbers()
    next(items)
    items.close()

    assert seen == [1]
    assert numbers.size() == 0


def test_a_generator_takes_what_is_sent_and_thrown_into_it(cachify):
    @pooled("p", max_size=1)
    def echo():
        got = yield "ready"
        while True:
            try:
                got = yield got
            except ValueError as error:
                got = error.args[0]

    items = echo()
    assert next(items) == "ready"
    assert items.send(1) == 1
    assert items.throw(ValueError("thrown")) == "thrown"
    items.close()
    assert echo.size() == 0


def test_a_generators_slot_is_current_in_its_own_steps_alone(cachify):
    @pooled("p", max_size=1)
    def keys():
        while True:
            yield current_slot().key

    items = keys()
    with pool("q", max_size=1) as mine:
        assert next(items) == "p"
        assert current_slot() is mine
        items.close()
        assert current_slot() is mine


def test_a_full_pool_raises_at_a_generators_first_item(cachify):
    @pooled("p", max_size=1)
    def numbers():
        yield 1

    items = numbers()
    with pool("p", max_size=1), pytest.raises(CachifyPoolFullError):
        next(items)


async def test_an_async_generator_holds_its_slot_until_it_is_exhausted_or_closed(cachify):
    @pooled("p", max_size=1)
    async def echo(n):
        got = None
        for number in range(n):
            await asyncio.sleep(0)
            try:
                got = yield number, got, current_slot().key
            except ValueError as error:
                got = error.args[0]

    assert [item async for item in echo(2)] == [(0, None, "p"), (1, None, "p")]
    assert await echo.size(2) == 0

    items = echo(9)
    assert await anext(items) == (0, None, "p")
    assert await items.asend("sent") == (1, "sent", "p")
    assert await items.athrow(ValueError("thrown")) == (2, "thrown", "p")
    assert await echo.size(9) == 1
    with pytest.raises(CachifyError):
        current_slot()
    await items.aclose()
    assert await echo.size(9) == 0


# Errors of the store


@pytest.fixture
def killed(private_server):
    """The global instance on a server, and how to kill that."""
    server = private_server()
    cachify = init_cachify(url=f"{server.url}?socket_timeout=0.2&socket_connect_timeout=0.2")
    yield server.kill
    cachify.close()
    set_global_engine(None)


@pytest.mark.parametrize("outcome", ["result", "error"])
def test_a_store_that_dies_in_the_body_does_not_replace_its_outcome(killed, outcome, caplog):
    @pooled("p", max_size=1)
    def work():
        killed()
        if outcome == "error":
            raise ValueError("the body's own")
        return "the body's own"

    if outcome == "error":
        with pytest.raises(ValueError, match="the body's own"):
            work()
    else:
        assert work() == "the body's own"
    assert "releasing a slot of 'p': the store redis://127.0.0.1:" in caplog.text


async def test_a_store_that_dies_in_an_async_body_does_not_replace_its_outcome(killed):
    @pooled("p", max_size=1)
    async def work():
        killed()
        return "the body's own"

    assert await work() == "the body's own"


async def test_a_store_that_was_out_of_reach_does_not_replace_an_async_bodys_error():
    cachify = init_cachify(url="redis://127.0.0.1:1", on_store_error="run", is_global=False)

    @cachify.pooled("p", max_size=1)
    async def work():
        raise ValueError("the body's own")

    with pytest.raises(ValueError, match="the body's own"):
        await work()


def test_a_store_out_of_reach_raises_for_functions(killed):
    @pooled("p", max_size=1)
    def work(): ...

    killed()

    with pytest.raises(CachifyError, match=r"the store redis://127.0.0.1:\d+/0.* could not answer: ConnectionError"):
        work()


def test_a_store_out_of_reach_can_let_functions_run(caplog):
    ran = []
    cachify = init_cachify(url="redis://127.0.0.1:1", on_store_error="run", is_global=False)

    @cachify.pooled("p", max_size=1)
    def work():
        with pytest.raises(CachifyError, match="no current slot"):
            current_slot()
        ran.append(1)
        return "ran"

    assert work() == "ran"
    with cachify.pool("p", max_size=1), pytest.raises(CachifyError, match="no current slot"):
        current_slot()
    assert "acquiring a slot of 'p', running without one" in caplog.text


def test_a_store_out_of_reach_can_be_waited_for(private_server, caplog):
    server = private_server()
    cachify = init_cachify(url=f"{server.url}?socket_timeout=0.2", on_store_error="retry", is_global=False)
    server.kill()
    sizes = []

    def work():
        with cachify.pool("p", max_size=1):
            sizes.append(cachify.pool("p", max_size=1).size())

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: "acquiring a slot of 'p', trying again" in caplog.text)
    server.restart()
    thread.join()

    assert sizes == [1]
    assert caplog.text.count("trying again") == 1
    cachify.close()


def test_an_acquire_that_is_waited_for_can_be_interrupted(caplog):
    cachify = init_cachify(url="redis://127.0.0.1:1", on_store_error="retry", is_global=False)
    meddled(cachify, interrupting("acquire", "before", KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt), cachify.pool("p", max_size=1):
        pass


# What is logged


def test_two_limits_for_one_name_are_warned_about_once_and_the_last_one_counts(cachify, caplog):
    for _ in range(3):
        with pool("p", max_size=1), pytest.raises(CachifyPoolFullError), pool("p", max_size=1):
            pass
        with pool("p", max_size=2), pool("p", max_size=2):
            assert pool("p", max_size=2).size() == 2
    with pool("q", max_size=1), pool("q", max_size=3):
        pass

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "pool 'p' is given two limits, 1 and 2; the last one counts",
        "pool 'q' is given two limits, 1 and 3; the last one counts",
    ]


def test_a_full_pool_is_logged_once_in_ten_seconds_with_a_count(cachify, caplog, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(cachify._engine, "_noise", noise.Noise(clock=lambda: now))
    caplog.set_level(logging.INFO, logger="cachify_tasks")

    @pooled("p-{n}", max_size=1, on_full=Drop())
    def work(n): ...

    with pool("p-1", max_size=1), pool("p-2", max_size=1):
        for _ in range(5):
            work(1)
        work(2)
        now += 9.9
        work(1)
        now += 0.2
        work(1)

    said = [record.getMessage() for record in caplog.records if "is full" in record.getMessage()]
    function = "test_a_full_pool_is_logged_once_in_ten_seconds_with_a_count.<locals>.work"
    assert said == [
        f"pool 'p-1' is full (limit 1): {function} -> Skip",
        f"pool 'p-2' is full (limit 1): {function} -> Skip",
        f"pool 'p-1' is full (limit 1): {function} -> Skip (5 more like this since the last line)",
    ]
    assert {record.levelno for record in caplog.records} == {logging.INFO}
