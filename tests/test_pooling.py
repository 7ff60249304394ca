"""The general pool as a context manager, on memory and on Redis; what is logged of it."""

import gc
import logging
import threading
from typing import Any

import pytest

from cachify_tasks import (
    CachifyError,
    CachifyInitError,
    CachifyPoolFullError,
    Drop,
    current_slot,
    init_cachify,
    pool,
    pooled,
)
from cachify_tasks import _log_throttle as log_throttle
from cachify_tasks._runtime.event_log import UNKNOWN, EventLog
from cachify_tasks._runtime.events import Emitter
from cachify_tasks._runtime.instances import set_global_runtime
from tests.support.programs import run


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
    set_global_runtime(cachify._runtime)

    assert p.size() == 0


def test_a_pool_before_init_cachify_says_what_is_missing(monkeypatch):
    set_global_runtime(None)
    monkeypatch.setattr("cachify_tasks._adapters._providers", [])  # no Celery app of another test
    p = pool("p", max_size=1)

    @pooled("p", max_size=1)
    def work(): ...

    for use in (p.size, p.__enter__, work, work.size):
        with pytest.raises(CachifyInitError, match=r"did you forget to call `init_cachify`.*setup\(app\)"):
            use()


def test_a_pool_bound_to_an_instance_needs_no_global_one():
    set_global_runtime(None)
    mine = init_cachify(is_global=False)

    @mine.pooled("p", max_size=1)
    def work():
        return mine.pool("p", max_size=1).size()

    assert work() == 1


@pytest.mark.usefixtures("no_other_functions")
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
        f"pool 'p' is given two limits, 1 by {UNKNOWN} and 2 by {UNKNOWN}; 2 counts",
        f"pool 'q' is given two limits, 1 by {UNKNOWN} and 3 by {UNKNOWN}; 3 counts",
    ]


@pytest.mark.usefixtures("no_other_functions")
def test_two_functions_that_give_one_pool_two_limits_are_both_named(cachify, caplog):
    @pooled("tenant-{t}", max_size=1)
    def sync(t): ...

    @pooled("{kind}-{name}", max_size=2)
    def bill(kind, name): ...

    @pooled("tenant-b", max_size=1)
    def elsewhere(): ...

    sync("a")
    bill("tenant", "a")

    names = [f"{function.__module__}.{function.__qualname__}" for function in (sync, bill)]
    assert [record.getMessage() for record in caplog.records] == [
        f"pool 'tenant-a' is given two limits, 1 by {names[0]} and 2 by {names[1]}; 2 counts"
    ]


@pytest.mark.usefixtures("no_other_functions")
def test_a_generator_that_gives_another_limit_is_named(cachify, caplog):
    @pooled("tenant-{t}", max_size=3)
    def rows(t):
        yield t

    with pool("tenant-a", max_size=1):
        assert list(rows("a")) == ["a"]

    (line,) = [record.getMessage() for record in caplog.records]
    assert line.endswith(f"and 3 by {rows.__module__}.{rows.__qualname__}; 3 counts")


@pytest.mark.usefixtures("no_other_functions")
def test_of_many_functions_with_one_limit_three_are_named(cachify, caplog):
    @pooled("p", max_size=2)
    def other(): ...

    def work(): ...

    kept = []
    for n in range(5):
        work.__qualname__ = f"work{n}"
        kept.append(pooled("p", max_size=1)(work))
    kept[0]()
    other()

    (line,) = [record.getMessage() for record in caplog.records]
    assert f"1 by {', '.join(f'{work.__module__}.work{n}' for n in range(3))} and 2 more and 2 by" in line


@pytest.mark.usefixtures("no_other_functions")
def test_a_function_that_is_gone_is_not_named(cachify, caplog):
    @pooled("p", max_size=1)
    def gone(): ...

    gone()
    del gone
    gc.collect()
    with pool("p", max_size=2):
        pass

    (line,) = [record.getMessage() for record in caplog.records]
    assert f"1 by {UNKNOWN} and 2" in line


def test_a_full_pool_is_logged_once_in_ten_seconds_with_a_count(cachify, caplog, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(cachify._runtime, "emit", Emitter(EventLog(clock=lambda: now)).emit)
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
        f"pool 'p-1' is full (limit 1): {function} -> Drop()",
        f"pool 'p-2' is full (limit 1): {function} -> Drop()",
        f"pool 'p-1' is full (limit 1): {function} -> Drop() (5 more like this since the last line)",
    ]
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_a_call_that_is_not_made_because_nobody_said_what_to_do_is_a_warning(cachify, caplog):
    @pooled("p-{n}", max_size=1)
    def silent(n):
        raise AssertionError("the pool is full")

    @pooled("p-{n}", max_size=1, on_full=None)
    def asked_for(n):
        raise AssertionError("the pool is full")

    with pool("p-1", max_size=1):
        for _ in range(3):
            assert silent(1) is None
            assert asked_for(1) is None

    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "pool 'p-1' is full (limit 1): a call of " in warning
    assert "silent is not made, and returns None; on_full= says what to do" in warning


class Collecting(dict[Any, Any]):
    """When something is looked up for so many times, the garbage is collected just then."""

    def __init__(self, content, times):
        super().__init__(content)
        self._times = times

    def _look(self):
        self._times -= 1
        if not self._times:
            gc.collect()

    def get(self, *args):
        self._look()
        return super().get(*args)

    def setdefault(self, *args):
        self._look()
        return super().setdefault(*args)


@pytest.mark.parametrize(("moment", "times"), [("entered", 1), ("left", 1), ("left", 2)])
def test_a_generator_that_is_collected_while_its_pool_is_entered_or_left_frees_its_slot(cachify, moment, times):
    p = pool("p", max_size=2)

    def lying():
        with p:
            yield

    def throw_away():
        cycle = [lying()]
        next(cycle[0])
        cycle.append(cycle)

    def work():
        if moment == "entered":
            throw_away()
            p._entries.by_who = Collecting(p._entries.by_who, times)
        with p:
            if moment == "left":
                throw_away()
                p._entries.by_who = Collecting(p._entries.by_who, times)

    thread = threading.Thread(target=work, daemon=True)
    gc.disable()  # it comes when it is called
    thread.start()
    thread.join(5)
    gc.enable()

    assert not thread.is_alive()
    assert p.size() == 0
    assert not p._entries.by_who


def test_a_child_that_is_forked_while_a_thread_enters_a_pool_is_not_stuck():
    told = run(
        """
        import os, threading, warnings
        from cachify_tasks import init_cachify, pool
        warnings.simplefilter("ignore")  # of forking with threads
        init_cachify()
        p = pool("p", max_size=2)
        inside, leave = threading.Event(), threading.Event()
        class Slow(dict):
            def _slow(self):
                if threading.current_thread() is thread:
                    inside.set()
                    leave.wait(10)
            def get(self, *args):
                self._slow()
                return super().get(*args)
            def setdefault(self, *args):
                self._slow()
                return super().setdefault(*args)
        def enter():
            with p:
                pass
        p._entries.by_who = Slow()
        thread = threading.Thread(target=enter)
        thread.start()
        inside.wait(10)
        if (pid := os.fork()) == 0:
            work = threading.Thread(target=enter, daemon=True)
            work.start()
            work.join(5)
            os._exit(work.is_alive())
        print(os.waitpid(pid, 0)[1])
        leave.set()
        thread.join()
        """
    )

    assert told == "0\n"


def test_a_line_about_something_else_may_come_in_the_middle_of_another(caplog):
    class Meeting(dict[Any, Any]):
        def get(self, *args):
            found = super().get(*args)
            if len(self) == 0:
                self["met"] = 0.0, 0
                throttle.throttled("inner", "inner")  # a collected generator whose slot could not be released
            return found

    throttle = log_throttle.LogThrottle()
    throttle._throttled = Meeting()
    thread = threading.Thread(target=throttle.throttled, args=("outer", "outer"), daemon=True)

    thread.start()
    thread.join(5)

    assert not thread.is_alive()
    assert caplog.messages == ["inner", "outer"]
