"""What `on_full` can be, and what each answers."""

from datetime import timedelta
from http import HTTPStatus

import pytest

from cachify_tasks import (
    CachedFallback,
    CachifyPoolFullError,
    CachifySettingError,
    Callback,
    Drop,
    Raise,
    Reschedule,
    pool,
    pooled,
)
from cachify_tasks._checks import count
from cachify_tasks._core.decisions import Defer, FullPool, Invoke, RaiseFull, Recall, Skip
from cachify_tasks.settings import UNSET
from cachify_tasks.strategies import NAMED, Strategy, as_strategy

FULL = FullPool("p", limit=3, held=3)


def at(attempt):
    return FullPool("p", 3, 3, attempt)


def test_each_strategy_gives_its_decision():
    assert Raise().decide(FULL) == RaiseFull()
    assert Drop().decide(FULL) == Skip(UNSET)
    assert Drop(result=None).decide(FULL) == Skip(None)
    assert Callback(print).decide(FULL) == Invoke(print)
    assert CachedFallback(ttl=1.5, default=0, key="{a}").decide(FULL) == Recall(1500, 0, "{a}")
    assert isinstance(Reschedule().decide(FULL), Defer)


def test_only_a_fallback_keeps_results():
    fallback = CachedFallback(ttl=60)

    assert [s.keeps() for s in (Raise(), Drop(), Callback(print), Reschedule())] == [None] * 4
    assert fallback.keeps() == Recall(60_000)
    assert Reschedule(max_attempts=1, then=fallback).keeps() == Recall(60_000)


def test_delays_grow_up_to_their_maximum():
    strategy = Reschedule(delay=2, factor=3, max_delay=timedelta(seconds=20), jitter=False)

    assert [strategy.decide(at(n)) for n in range(4)] == [Defer(2000), Defer(6000), Defer(18_000), Defer(20_000)]
    assert strategy.decide(at(10**9)) == Defer(20_000)


def test_jitter_spreads_a_delay_between_its_half_and_all_of_it():
    decisions = [Reschedule(delay=1).decide(FULL) for _ in range(300)]
    delays = [decision.delay_ms for decision in decisions if isinstance(decision, Defer)]

    assert 500 <= min(delays) < 600
    assert 900 < max(delays) <= 1000


def test_after_so_many_attempts_another_strategy_decides():
    strategy = Reschedule(max_attempts=2, then=Drop(result="gave up"))

    assert [type(strategy.decide(at(n))) for n in range(3)] == [Defer, Defer, Skip]
    assert Reschedule(max_attempts=1).decide(at(1)) == RaiseFull()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"delay": 0}, ValueError, "delay must be at least 0.01 seconds"),
        ({"delay": "1"}, TypeError, "delay must be seconds"),
        ({"delay": 40}, ValueError, r"max_delay must be at least delay \(40\), not 30"),
        ({"factor": 0.5}, ValueError, "factor must be a number of at least 1, not 0.5"),
        ({"factor": float("inf")}, ValueError, "factor must be"),
        ({"factor": float("nan")}, ValueError, "factor must be"),
        ({"factor": "2"}, TypeError, "factor must be"),
        ({"jitter": 1}, TypeError, "jitter must be True or False"),
        ({"max_attempts": 0}, ValueError, "max_attempts must be an int of at least 1"),
        ({"max_attempts": 1.0}, TypeError, "max_attempts must be an int of at least 1"),
        ({"then": Drop()}, ValueError, "then needs max_attempts"),
        ({"max_attempts": 1, "then": "dorp"}, CachifySettingError, "then must be a strategy"),
    ],
)
def test_an_option_that_reschedule_cannot_take_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Reschedule(**options)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: CachedFallback(ttl=0), ValueError),
        (lambda: CachedFallback(key=""), ValueError),
        (lambda: CachedFallback(key=7), ValueError),  # type: ignore[arg-type]
        (lambda: Callback("no callable"), TypeError),  # type: ignore[arg-type]
    ],
)
def test_an_option_that_a_strategy_cannot_take_is_refused(make, error):
    with pytest.raises(error):
        make()


@pytest.mark.parametrize("value", ["dorp", 7, object(), [Drop()]])
def test_an_on_full_that_is_no_strategy_is_refused_and_what_is_valid_is_named(value):
    with pytest.raises(
        CachifySettingError, match=r"on_full must be a strategy such as Park\(\), Raise\(\), Drop\(\).*\(pool 'p'\)"
    ):
        pooled("p", max_size=1, on_full=value)


@pytest.mark.parametrize("value", [Drop, Reschedule, int])
def test_a_class_in_place_of_a_strategy_is_refused_with_a_hint(value):
    with pytest.raises(CachifySettingError, match=rf"{value.__name__} is a class: write {value.__name__}\(\)"):
        pooled("p", max_size=1, on_full=value)


@pytest.mark.parametrize("name", NAMED)
def test_a_strategy_may_be_named(name):
    assert isinstance(as_strategy(f" {name.upper().replace('_', '-')} "), NAMED[name])  # type: ignore[arg-type]


def test_a_decorator_takes_the_name_of_a_strategy(cachify):
    @pooled("p", max_size=1, on_full="raise")
    def work() -> int:
        return 1

    assert work() == 1
    with pool("p", max_size=1), pytest.raises(CachifyPoolFullError):
        work()


def test_a_strategy_of_ones_own_is_one_class():
    class Late:
        def decide(self, full):
            return Skip(f"{full.key} {full.held}/{full.limit}")

        def keeps(self):
            return None

    assert isinstance(Late(), Strategy)
    assert as_strategy(Late()).decide(FULL) == Skip("p 3/3")  # type: ignore[union-attr]


def test_none_and_unset_stay_what_they_are():
    assert as_strategy(None) is None
    assert as_strategy(UNSET) is UNSET


@pytest.mark.parametrize("value", [1, 10**9, HTTPStatus.OK])
def test_a_count_is_given_back_as_a_plain_int(value):
    assert count("n", value) == value
    assert type(count("n", value)) is int


def test_strategies_tell_what_they_are():
    assert repr(Reschedule(delay=2, max_attempts=3)) == "Reschedule(delay=2, max_attempts=3)"
    assert repr(CachedFallback(ttl=1)).startswith("CachedFallback(Recall(ttl_ms=1000")
    assert Drop(result=1) == Drop(result=1)
