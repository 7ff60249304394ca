"""Deliveries that wait for capacity, and those of them for which their pool has no place."""

from __future__ import annotations

from typing import Any

import pytest

from cachify_tasks import CachedFallback, Drop, Park, Raise, Reschedule
from cachify_tasks._core.commands import Configure, Look
from cachify_tasks._core.decisions import FullPool
from cachify_tasks._core.replies import Room
from cachify_tasks._worker.attempt import Attempt
from cachify_tasks._worker.port import Stored
from cachify_tasks._worker.verdicts import AskAgain, Refuse, Revoke, Start
from cachify_tasks.settings import UNSET
from tests.worker.fakes import Bench, FakeDelivery, limited


class Arriving(Bench):
    """Every process of this worker is busy."""

    def __init__(self, on_full: Any = UNSET, *, key: str = "p", max_size: int = 1) -> None:
        super().__init__(limited(on_full, key=key, max_size=max_size, function=lambda who="x": None))

    def message(self, name: str, **options: Any) -> FakeDelivery:
        return FakeDelivery(Attempt(name), self.limit, **options)

    def wait(self, delivery: FakeDelivery, *, can_fail_unrun: bool = True) -> Look | None:
        return self.worker.arrivals.wait(delivery, can_fail_unrun=can_fail_unrun)

    def waits(self, name: str, **options: Any) -> FakeDelivery:
        """A message arrives, and the store answers what the worker asks about it."""
        delivery = self.message(name, **options)
        look = self.wait(delivery)
        if look is not None:
            self.worker.arrivals.on_room(delivery, self.send(look))  # type: ignore[arg-type]
        return delivery


def apologize(who: str = "x") -> str:
    return f"not now, {who}"


def refused(*deliveries: FakeDelivery) -> list[bool]:
    return [delivery.state.refused for delivery in deliveries]


def test_a_message_that_waits_counts_as_held():
    bench = Arriving(Drop(), max_size=2)

    assert refused(*(bench.waits(name) for name in "abc")) == [False, False, True]
    (verdict,) = bench.port.applied
    assert verdict == Revoke(FullPool("p", 2, 2))


def test_a_message_of_another_pool_does_not():
    bench = Arriving(Drop(), key="p-{who}")

    assert refused(*(bench.waits(name, args=(name,)) for name in "ab")) == [False, False]
    assert refused(bench.waits("c", args=("a",))) == [True]


def test_one_that_came_later_does_not():
    bench = Arriving(Drop())
    first = bench.message("first")
    look = bench.wait(first)
    bench.waits("second")

    bench.worker.arrivals.on_room(first, bench.send(look))  # type: ignore[arg-type]

    assert refused(first) == [False]


def test_one_whose_turn_has_come_is_counted_by_the_store():
    bench = Arriving(Drop(), max_size=2)
    first = bench.waits("first")
    bench.worker.ask_now(first)

    (verdict,) = bench.port.applied
    assert isinstance(verdict, Start)
    assert refused(bench.waits("second"), bench.waits("third")) == [False, True]


def test_a_slot_that_another_worker_holds_counts():
    bench = Arriving(Drop())
    bench.acquire_elsewhere("other:0")

    assert refused(bench.waits("a")) == [True]


def test_a_limit_that_was_set_at_run_time_counts():
    bench = Arriving(Drop(), max_size=5)
    bench.send(Configure(pool="p", limit=1, start_ms=1000))

    assert refused(bench.waits("a"), bench.waits("b")) == [False, True]
    bench.send(Configure(pool="p", limit=0, start_ms=1000))
    assert refused(bench.waits("c")) == [True]


def test_a_task_that_may_park_is_refused_when_its_queue_is_full():
    bench = Arriving(Park(max_parked=2, then=Drop()))
    bench.acquire_elsewhere("holds:0")
    bench.acquire_elsewhere("waits:0")

    assert refused(bench.waits("a"), bench.waits("b")) == [False, True]


@pytest.mark.parametrize(
    "strategy",
    [Park(), Drop(result=7), Reschedule(), CachedFallback(ttl=5), apologize, None],
    ids=lambda strategy: getattr(strategy, "__name__", type(strategy).__name__),
)
def test_what_else_decides_is_not_asked_on_arrival(strategy):
    bench = Arriving(strategy)

    assert bench.wait(bench.message("a")) is None


def test_a_task_that_raises_is_refused_if_nothing_of_its_own_is_to_see_that():
    bench = Arriving(Raise())
    bench.acquire_elsewhere("other:0")

    assert bench.wait(bench.message("a"), can_fail_unrun=False) is None
    assert refused(bench.waits("b")) == [True]
    (verdict,) = bench.port.applied
    assert isinstance(verdict, Refuse)
    assert str(verdict.full.as_error()) == "pool 'p' is full: 1 of 1 slots are taken"


def test_a_copy_and_a_parked_task_are_left_to_their_turn():
    bench = Arriving(Drop())
    bench.acquire_elsewhere("other:0")
    hinted = bench.message("h")
    hinted.state.stored = Stored(pool="p", hinted=True)

    assert bench.wait(bench.message("a", is_copy=True)) is None
    assert bench.wait(hinted) is None


def test_arguments_that_make_no_key_fail_at_their_turn():
    bench = Arriving(Drop(), key="p-{who}")

    class Mute:
        def __str__(self) -> str:
            raise ValueError("has no name")

    assert bench.wait(bench.message("a", args=(Mute(),))) is None
    assert bench.wait(bench.message("b", args=("\ud800",))) is None


def test_a_message_whose_turn_comes_first_is_not_refused():
    bench = Arriving(Drop())
    bench.acquire_elsewhere("other:0")
    delivery = bench.message("a")
    bench.wait(delivery)

    assert bench.worker.on_turn(delivery)
    bench.worker.arrivals.on_room(delivery, Room(1, 0))

    assert refused(delivery) == [False]
    assert bench.port.applied == []


def test_a_message_that_was_refused_does_not_run_at_its_turn():
    bench = Arriving(Drop())
    bench.acquire_elsewhere("other:0")
    delivery = bench.waits("a")
    bench.port.applied.clear()

    bench.worker.ask_now(delivery)

    assert bench.port.applied == []


def test_turn_and_refusal_at_the_same_moment_end_in_one_of_them():
    bench = Arriving(Drop())
    delivery = bench.message("a")
    bench.wait(delivery)
    waiting = bench.worker.arrivals.waiting

    class Taken(dict[int, Any]):
        """In the moment in which it is refused, its thread takes it."""

        def pop(self, key: int, default: Any = None) -> Any:
            bench.worker.arrivals.waiting = waiting
            assert bench.worker.on_turn(delivery)
            return waiting.pop(key, default)

    bench.worker.arrivals.waiting = Taken(waiting)
    bench.worker.arrivals.on_room(delivery, Room(1, 0))

    assert refused(delivery) == [False]
    assert bench.port.applied == []


def test_a_worker_that_shuts_down_leaves_it_to_others():
    bench = Arriving(Drop())
    delivery = bench.message("a")
    bench.wait(delivery)
    bench.port.accepting = False

    bench.worker.arrivals.on_room(delivery, Room(1, 0))

    assert refused(delivery) == [False]


@pytest.mark.parametrize("how", ["fails", "undone"])
def test_a_refusal_that_cannot_be_recorded_is_tried_again(how, caplog):
    bench = Arriving(Drop())
    bench.acquire_elsewhere("other:0")
    if how == "fails":
        bench.port.fails = {Revoke: OSError("the backend is down")}
    else:
        bench.port.undone = (Revoke,)

    delivery = bench.waits("a")

    assert [type(verdict) for verdict in bench.port.applied] == [Revoke, AskAgain]
    assert ("could not be refused" in caplog.text) == (how == "fails")
    bench.port.fails, bench.port.undone = {}, ()
    bench.wait(delivery)  # it arrives again
    assert bench.worker.on_turn(delivery)


def test_a_lost_connection_forgets_what_waits():
    bench = Arriving(Drop())
    bench.waits("a")

    bench.worker.arrivals.forget()

    assert refused(bench.waits("b")) == [False]


def test_the_log_names_the_task_and_each_id(caplog):
    caplog.set_level("DEBUG")
    bench = Arriving(Drop())
    bench.acquire_elsewhere("other:0")

    for name in "abc":
        bench.waits(name)

    lines = [(record.levelname, record.getMessage()) for record in caplog.records if "is full" in record.getMessage()]
    assert lines == [
        ("INFO", "pool 'p' is full (limit 1): job[a] -> Drop()"),
        ("DEBUG", "pool 'p' is full (limit 1): job[b] -> Drop()"),
        ("DEBUG", "pool 'p' is full (limit 1): job[c] -> Drop()"),
    ]
