"""How long a worker leaves a store alone that did not answer."""

import pytest

from cachify_tasks._worker.outage import FIRST, LONGEST, StoreOutage
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
