"""How long a worker leaves a store alone that did not answer."""

import pytest

from cachify_tasks._worker.outage import FIRST, LONGEST, PROBE, WHILE_PROBING, StoreOutage
from tests.worker.fakes import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock: Clock) -> StoreOutage:
    return StoreOutage(clock=clock)


def test_a_worker_begins_with_a_store_that_answers(outage):
    assert not outage.is_on
    assert outage.left == 0


def test_after_a_failure_nothing_is_sent_until_the_pause_is_over(outage, clock):
    outage.begin()

    assert outage.is_on
    assert outage.left == FIRST
    clock.advance(FIRST - 0.1)
    assert outage.is_on
    assert outage.left == pytest.approx(0.1)
    clock.advance(0.1)
    assert not outage.is_on
    assert outage.left == 0
    clock.advance(1)
    assert outage.left == 0


def test_each_failure_in_a_row_doubles_the_pause_up_to_the_longest(outage):
    assert [outage.next_pause() for _ in range(7)] == [0.5, 1, 2, 4, 8, LONGEST, LONGEST]


def test_requests_that_fail_together_count_as_one_failure(outage, clock):
    for _ in range(25):
        outage.begin()

    assert outage.left == FIRST
    clock.advance(FIRST)
    outage.begin()  # sent after the pause
    assert outage.left == 2 * FIRST


def test_after_an_answer_the_next_failure_counts_as_the_first(outage):
    outage.next_pause()
    outage.next_pause()

    outage.on_answer()

    assert outage.next_pause() == FIRST


def test_when_another_thread_has_seen_the_store_answer_the_pause_is_over(outage, clock):
    outage.begin()

    outage.end_pause()

    assert not outage.is_on
    assert outage.left == 0


def test_the_end_of_a_pause_is_no_answer_yet(outage):
    outage.begin()
    outage.end_pause()

    assert outage.next_pause() == 2 * FIRST


def test_after_the_pause_one_request_at_a_time_finds_out_whether_the_store_answers(outage, clock):
    assert [outage.may_ask(), outage.may_ask()] == [True, True]
    outage.begin()
    assert not outage.may_ask()
    clock.advance(FIRST)

    assert [outage.may_ask(), outage.may_ask()] == [True, False]
    assert not outage.is_on  # what is sent now goes behind it
    assert outage.left == WHILE_PROBING
    outage.on_answer()
    assert outage.may_ask()


def test_a_request_that_never_gets_an_answer_does_not_keep_the_others_for_ever(outage, clock):
    outage.begin()
    clock.advance(FIRST)
    assert outage.may_ask()

    clock.advance(PROBE)

    assert outage.may_ask()


def test_another_failure_begins_the_next_pause(outage, clock):
    outage.begin()
    clock.advance(FIRST)
    assert outage.may_ask()

    outage.begin()

    assert outage.left == 2 * FIRST
    assert not outage.may_ask()
