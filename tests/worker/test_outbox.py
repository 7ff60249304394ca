"""Commands that the store has not confirmed: in order, as often as it takes, for one lease."""

import threading
from collections import Counter

import pytest

from cachify_tasks._core.commands import Release
from cachify_tasks._worker.outbox import Outbox
from tests.worker.fakes import Clock


def release(number: int) -> Release:
    return Release(pool="p", holder=f"t{number}:0", token=1, request_id="r", start_ms=1, tomb_ms=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(clock: Clock) -> Outbox:
    return Outbox(30.0, clock=clock)


def test_commands_are_taken_in_the_order_in_which_they_were_added(outbox):
    for number in range(5):
        outbox.add(release(number))

    assert len(outbox.entries) == 5
    assert [entry.command for entry in outbox.take()] == [release(n) for n in range(5)]
    assert len(outbox.entries) == 0
    assert outbox.take() == []
    assert outbox.take_one() is None


def test_commands_that_failed_go_before_those_that_were_added_since(outbox):
    for number in range(3):
        outbox.add(release(number))
    taken = outbox.take()
    outbox.add(release(3))

    outbox.put_back(taken[1:])

    assert [entry.command for entry in outbox.take()] == [release(n) for n in (1, 2, 3)]


def test_a_command_that_was_put_back_keeps_the_time_at_which_it_was_added(outbox, clock):
    outbox.add(release(0))
    clock.advance(20)
    outbox.put_back(outbox.take())

    assert [entry.since for entry in outbox.take()] == [clock.now - 20]


def test_a_command_is_forgotten_when_its_slot_has_expired(outbox, clock):
    outbox.add(release(0))
    clock.advance(20)
    outbox.add(release(1))
    clock.advance(10)
    outbox.put_back(outbox.take())  # one lease after the first: it may still matter

    assert len(outbox.entries) == 2
    clock.advance(0.001)
    assert [entry.command for entry in outbox.take()] == [release(1)]


def test_a_store_that_never_answers_does_not_make_it_grow_for_ever(outbox, clock):
    for number in range(1000):
        outbox.add(release(number))
        outbox.put_back(outbox.take())
        clock.advance(1)

    assert len(outbox.entries) <= 31


def test_two_threads_that_take_at_the_same_time_get_each_command_once(outbox):
    taken: list[list[str]] = [[], []]
    begin = threading.Barrier(3)

    def take(into: list[str]) -> None:
        begin.wait()
        into.extend(entry.command.holder for entry in iter(outbox.take_one, None))

    threads = [threading.Thread(target=take, args=(into,)) for into in taken]
    for number in range(5000):
        outbox.add(release(number))
    for thread in threads:
        thread.start()
    begin.wait()
    for thread in threads:
        thread.join()

    counted = Counter(taken[0] + taken[1])
    assert counted == Counter(f"t{n}:0" for n in range(5000))
