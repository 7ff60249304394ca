"""What becomes of each delivery of a worker from its arrival on, on the real memory store."""

import dataclasses
import logging

import pytest

from cachify_tasks import Drop, Park, Raise, Reschedule, pooled
from cachify_tasks._core.commands import Acquire
from cachify_tasks._core.decisions import FullPool
from cachify_tasks._worker.attempt import Attempt, Header
from cachify_tasks._worker.verdicts import (
    Discard,
    Done,
    Fail,
    Revoke,
    SendLater,
    Start,
    StartWith,
)
from tests.worker.fakes import KIND, LEASE_S, Bench, FakeDelivery, limited, only

# Arrival


def test_a_task_with_a_free_pool_runs_in_its_slot(bench):
    delivery = bench.arrive("t")

    (start,) = bench.port.applied
    assert start == Start(delivery.state.slot.token)
    assert bench.holders() == {"t:0": False}
    assert bench.worker.slots.holding() == [delivery]


def test_a_task_without_a_limit_runs_and_the_store_is_not_asked(bench):
    delivery = FakeDelivery(Attempt("t"))

    bench.worker.ask_now(delivery)

    assert bench.port.applied == [Start(0)]
    assert bench.store.sent == []


def test_a_task_that_finds_its_pool_full_is_parked(bench):
    bench.arrive("first")

    second = bench.arrive("second")

    assert bench.port.applied[1:] == [Done("parked", 1, 1)]
    assert bench.parked() == 1
    assert second.state.slot is None


@pytest.mark.parametrize(
    ("on_full", "verdict"),
    [(Drop(), Revoke), (Drop(result=7), StartWith), (Raise(), StartWith), (Reschedule(), SendLater)],
)
def test_a_task_that_may_not_park_meets_its_strategy(on_full, verdict):
    bench = Bench(limited(on_full))
    bench.arrive("first")

    second = bench.arrive("second")

    assert isinstance(bench.port.applied[-1], verdict)
    assert bench.parked() == 0
    assert second.state.slot is None


def test_a_task_that_was_put_off_before_is_put_off_once_more():
    bench = Bench(limited(Reschedule(delay=1, jitter=False, max_attempts=3, then=Drop())))
    bench.arrive("first")

    bench.arrive("second", header=Header(deferrals=2))
    bench.arrive("third", header=Header(deferrals=3))

    assert bench.port.applied[1:] == [
        SendLater(4, 3, True, FullPool("p", 1, 1, 2)), Revoke(FullPool("p", 1, 1, 3)),
    ]  # fmt: skip


@pytest.mark.usefixtures("no_other_functions")
def test_a_limit_that_differs_is_warned_of_with_the_task_that_gives_it_and_its_worker(bench, caplog):
    @pooled("p", max_size=1)
    def work(): ...

    bench.arrive("first")
    bench.limit = dataclasses.replace(bench.limit, max_size=3)

    bench.arrive("second")

    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"1 by {work.__module__}.{work.__qualname__} and 3 by job @fake; 3 counts" in line


def test_a_command_names_one_arrival_however_often_it_is_made(bench):
    first, second = FakeDelivery(Attempt("t"), bench.limit), FakeDelivery(Attempt("t"), bench.limit)

    command = bench.worker.request(first)

    assert bench.worker.request(first) is command
    assert bench.worker.request(second).request_id != command.request_id
    assert (command.pool, command.holder, command.limit, command.label) == ("p", "t:0", 1, "job @fake")
    assert command.ticket.kind == KIND


@pytest.mark.parametrize(
    ("key", "args", "text"),
    [
        ("user-{id}", (), "id"),
        ("user-{id.name}", (1,), "name"),
        ("{id}", ("\ud800",), r"'id' is '\ud800': it has a lone surrogate"),
    ],
)
def test_arguments_that_do_not_make_a_key_fail_their_task_alone(key, args, text):
    bench = Bench(limited(key=key, function=lambda id: None))  # noqa: A006

    bench.arrive("t", args=args)

    (failure,) = bench.port.applied
    assert isinstance(failure, Fail)
    assert failure.kind == "key"
    assert text in failure.message
    assert bench.store.sent == []


class Hostile:
    """An argument that cannot be shown."""

    def __format__(self, spec: str) -> str:
        raise RuntimeError("not to be shown")


def test_whatever_an_argument_raises_fails_its_task_alone():
    bench = Bench(limited(key="user-{id}", function=lambda id: None))  # noqa: A006

    bench.arrive("t", args=(Hostile(),))

    assert bench.port.applied == [Fail("key", "not to be shown")]


@pytest.mark.parametrize("priority", [-1, 256, 1.5, "high", None, True])
def test_a_priority_that_is_none_fails_its_task_alone(priority):
    bench = Bench(limited(Park(priority=lambda *_: priority)))

    bench.arrive("t")

    (failure,) = bench.port.applied
    assert isinstance(failure, Fail)
    assert "the priority of a parked task must be an int from 0 to 255" in failure.message


def test_a_parked_task_has_the_priority_of_its_arguments_or_of_its_message():
    by_argument = Bench(limited(Park(priority=lambda level: level)))
    by_message = Bench(limited(Park(priority="message")))

    by_argument.arrive("t", args=(7,))
    by_message.arrive("t", priority=8)

    for bench, priority in ((by_argument, 7), (by_message, 8)):
        (command,) = only(bench, Acquire)
        assert command.ticket is not None
        assert command.ticket.priority == priority


# Second deliveries


def test_a_second_delivery_of_a_running_task_stands_by_and_goes_with_the_runs_end(bench, caplog):
    caplog.set_level(logging.INFO, "cachify_tasks")
    first = bench.arrive("t")

    bench.worker.ask_now(first.again())
    assert bench.port.applied[1:] == [Done("standby")]
    assert "job[t] is running; a copy of its message is kept aside" in caplog.text
    bench.worker.on_run_end(first, requeue=False)

    assert bench.holders() == {}
    assert bench.port.ran == []


def test_the_second_delivery_of_a_task_whose_worker_died_runs(bench):
    first = bench.arrive("t")
    bench.worker.ask_now(first.again())
    bench.worker.slots.abandon(first)

    bench.clock.advance(LEASE_S + 1)
    bench.arrive("next")

    (again,) = bench.port.ran
    assert again.attempt == first.attempt
    bench.worker.ask_now(again)
    assert isinstance(bench.port.applied[-1], Start)


def test_a_second_delivery_of_a_task_that_may_not_park_stands_by_and_is_never_parked():
    bench = Bench(limited(Drop()))
    first = bench.arrive("t")

    bench.worker.ask_now(first.again())
    assert bench.port.applied[1:] == [Done("standby")]
    bench.worker.on_run_end(first, requeue=False)
    bench.arrive("other")
    bench.arrive("full", is_copy=True)

    assert bench.port.applied[-1] == Revoke(FullPool("p", 1, 1))
    assert bench.parked() == 0


def test_a_second_delivery_that_the_store_cannot_keep_asks_again_later(bench, caplog):
    caplog.set_level(logging.INFO, "cachify_tasks")
    first = bench.arrive("t")

    copy = first.again()
    copy.body = b""
    bench.worker.ask_now(copy)

    assert bench.port.applied[1:] == [SendLater(5.0, 0, False)]
    assert "job[t] is running; a copy of its message asks again in 5 s" in caplog.text


def test_a_late_copy_of_a_task_that_has_ended_is_discarded(bench, caplog):
    caplog.set_level(logging.INFO, "cachify_tasks")
    first = bench.arrive("t")
    bench.worker.on_run_end(first, requeue=False)

    bench.worker.ask_now(first.again())

    assert bench.port.applied[1:] == [Discard()]
    assert "job[t] has ended already; this copy is dropped" in caplog.text


# What the log says


@pytest.mark.parametrize(
    ("on_full", "line"),
    [
        (Park(), "job[second] is parked"), (Raise(), "job[second] -> Raise()"), (Drop(), "job[second] -> Drop()"),
        (Drop(result=1), "job[second] -> Drop(result=1)"), (Reschedule(delay=2), "job[second] -> Reschedule(delay=2"),
    ],
)  # fmt: skip
def test_the_log_says_what_happens_to_a_task_that_finds_its_pool_full(on_full, line, caplog):
    caplog.set_level(logging.INFO, "cachify_tasks")
    bench = Bench(limited(on_full))
    bench.arrive("first")

    bench.arrive("second")

    assert f"pool 'p' is full (limit 1): {line}" in caplog.text
