"""`@pooled`, on memory and on Redis."""

import asyncio
import contextvars
import functools
import inspect
import threading
from typing import Any

import pytest

from cachify_tasks import (
    CachedFallback,
    CachifyError,
    CachifyPoolFullError,
    Callback,
    Drop,
    Raise,
    Reschedule,
    current_slot,
    pool,
    pooled,
)


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
