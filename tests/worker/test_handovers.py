"""Parked tasks whose turn has come: started in this worker, or hinted at, or left alone."""

import pytest

from cachify_tasks._core.commands import Acquire
from cachify_tasks._worker import handovers
from cachify_tasks._worker.handovers import HINT_PAUSE, HandOvers, HintThrottle
from cachify_tasks._worker.port import Refusal
from tests.worker.fakes import KIND, Clock, heir


@pytest.fixture
def heirs(bench) -> HandOvers[str]:
    handovers: HandOvers[str] = bench.worker.handovers
    return handovers


@pytest.mark.parametrize("kind", [KIND, ""])
def test_an_heir_that_this_worker_can_run_starts_here(bench, heirs, kind):
    heirs.start("p", [heir("t:0", token=7, waited_ms=5, kind=kind)], starter="r", sure_until=1003.0)

    (delivery,) = bench.port.ran
    stored = delivery.state.stored
    assert delivery.attempt.holder == "t:0"
    assert (stored.pool, stored.token, stored.waited_ms) == ("p", 7, 5)
    assert (stored.starter, stored.sure_until, stored.hinted) == ("r", 1003.0, False)
    assert heirs.waiting() == [delivery]
    assert bench.port.hints == []


@pytest.mark.parametrize("refusal", list(Refusal))
def test_an_heir_that_this_worker_cannot_run_is_hinted_at(bench, heirs, refusal):
    bench.port.refusal = refusal

    heirs.start("p", [heir("t:0", token=7)], starter="r")

    (hint,) = bench.port.hints
    assert (hint.pool, hint.heir.holder, hint.message, hint.starter) == ("p", "t:0", "t:0", "r")
    assert bench.port.ran == []
    assert len(heirs) == 0


def test_the_worker_says_how_many_heirs_wait_when_it_asks_for_capacity(bench, heirs):
    heirs.start("p", [heir(f"t{n}:0") for n in range(3)])

    assert bench.port.asked_with == [0, 1, 2]
    assert len(heirs) == 3


def test_an_heir_that_was_revoked_while_it_was_parked_neither_starts_nor_is_hinted_at(bench, heirs):
    bench.port.revoked = {"t:0"}

    heirs.start("p", [heir("t:0")])

    assert (bench.port.ran, bench.port.hints, len(heirs)) == ([], [], 0)


def test_an_heir_of_another_framework_is_left_to_its_own_workers(bench, heirs):
    heirs.start("p", [heir("other:0", kind="task/other", envelope=b"other:0"), heir("mine:0")])

    assert [delivery.attempt.holder for delivery in bench.port.ran] == ["mine:0"]
    assert bench.port.hints == []


def test_an_heir_that_waits_here_takes_the_new_reservation_instead_of_starting_twice(bench, heirs):
    heirs.start("p", [heir("t:0", token=1)], starter="first", sure_until=1.0)

    heirs.start("p", [heir("t:0", token=2)], starter="second", sure_until=2.0)

    (delivery,) = bench.port.ran
    stored = delivery.state.stored
    assert (stored.token, stored.starter, stored.sure_until) == (2, "second", 2.0)
    assert len(heirs) == 1


def test_an_heir_that_another_worker_reserved_again_may_be_started_by_anybody(bench, heirs):
    heirs.start("p", [heir("t:0", token=1)], starter="first", sure_until=10**6)

    heirs.start("p", [heir("t:0", token=2)])

    (delivery,) = bench.port.ran
    assert not bench.worker.begin_reserved(delivery, bench.worker.request(delivery))


def test_an_envelope_that_cannot_be_read_is_logged_and_does_not_stop_the_next_heir(bench, heirs, caplog):
    heirs.start("p", [heir("broken:0", envelope=b"\xff"), heir("t:0")])

    assert [delivery.attempt.holder for delivery in bench.port.ran] == ["t:0"]
    assert "the parked task broken:0 of pool 'p' could not be started: UnicodeDecodeError" in caplog.text


def test_a_broker_that_takes_no_hint_does_not_stop_the_next_heir(bench, heirs, caplog, monkeypatch):
    taken = []

    def hint(handover):
        if handover.heir.holder == "first:0":
            raise ConnectionError("no broker")
        taken.append(handover.heir.holder)

    monkeypatch.setattr(bench.port, "hint", hint)
    bench.port.refusal = Refusal.NO_CAPACITY

    heirs.start("p", [heir("first:0"), heir("second:0")])

    assert taken == ["second:0"]
    assert "the parked task first:0 of pool 'p' could not be started: ConnectionError" in caplog.text


def test_an_heir_whose_turn_has_come_waits_no_more(bench, heirs):
    heirs.start("p", [heir("t:0"), heir("u:0")])
    first, second = bench.port.ran

    heirs.on_turn(first)

    assert heirs.waiting() == [second]


def test_a_message_from_the_broker_does_not_end_the_waiting_of_an_heir_of_the_same_name(bench, heirs):
    heirs.start("p", [heir("t:0")])

    bench.arrive("t", is_copy=True)

    assert len(heirs) == 1


def test_heirs_that_were_never_sent_to_the_store_wait_again_and_other_messages_do_not(bench, heirs):
    heirs.start("p", [heir("t:0")])
    (delivery,) = bench.port.ran
    delivered = bench.arrive("delivered")
    heirs.on_turn(delivery)

    heirs.wait_again([delivery, delivered])

    assert heirs.waiting() == [delivery]


def test_a_shutdown_gives_every_heir_that_waits_back_and_lets_none_of_them_begin(bench, heirs):
    heirs.start("p", [heir(f"t{n}:0") for n in range(3)])
    given_back = []

    def give_back(delivery):
        given_back.append(delivery.attempt.holder)
        return True

    heirs.pass_on(give_back)

    assert given_back == ["t0:0", "t1:0", "t2:0"]
    assert [delivery.state.passed_on for delivery in bench.port.ran] == [True] * 3
    assert len(heirs) == 0


def test_a_shutdown_gives_no_more_heirs_back_when_the_store_has_not_answered_for_one(bench, heirs):
    heirs.start("p", [heir(f"t{n}:0") for n in range(3)])
    tried = []

    def give_back(delivery):
        tried.append(delivery)
        return False

    heirs.pass_on(give_back)

    assert tried == bench.port.ran[:1]
    assert [delivery.state.passed_on for delivery in bench.port.ran] == [True] * 3
    assert len(heirs) == 0


def test_a_shutdown_does_not_wait_for_each_heir_while_the_store_is_away(bench, heirs, caplog):
    heirs.start("p", [heir(f"t{n}:0") for n in range(3)])
    bench.store.down = True

    heirs.pass_on(bench.worker.give_back)

    assert len([command for command in bench.store.sent if not isinstance(command, Acquire)]) == 1
    assert "the parked task job[t0] could not be given back" in caplog.text


def test_an_heir_whose_turn_comes_during_the_shutdown_is_not_given_back_too(bench, heirs):
    heirs.start("p", [heir("t:0"), heir("u:0")])
    first, second = bench.port.ran
    given_back = []

    def give_back(delivery):
        heirs.on_turn(second)  # a thread of the pool begins it meanwhile
        given_back.append(delivery)
        return True

    heirs.pass_on(give_back)

    assert given_back == [first]
    assert second.state.passed_on


def test_three_hints_at_a_task_go_out_at_once_and_then_they_become_rare():
    clock = Clock()
    throttle = HintThrottle(clock=clock)

    assert [throttle.allows("t:0") for _ in range(5)] == [True, True, True, False, False]
    clock.advance(HINT_PAUSE - 0.1)
    assert not throttle.allows("t:0")
    clock.advance(0.1)
    assert throttle.allows("t:0")
    clock.advance(2 * HINT_PAUSE - 0.1)
    assert not throttle.allows("t:0")
    clock.advance(0.1)
    assert throttle.allows("t:0")


def test_hints_at_one_task_do_not_keep_back_those_at_another():
    throttle = HintThrottle(clock=Clock())

    assert [throttle.allows(name) for name in "aaaab"] == [True, True, True, False, True]


def test_a_task_that_nobody_consumes_is_hinted_at_every_ten_minutes_for_years():
    clock = Clock()
    throttle = HintThrottle(clock=clock)
    for _ in range(8):
        throttle.allows("t:0")
        clock.advance(20 * HINT_PAUSE)

    for _ in range(2000):
        assert throttle.allows("t:0")
        clock.advance(20 * HINT_PAUSE - 0.1)
        assert not throttle.allows("t:0")
        clock.advance(0.1)


def test_the_task_hinted_at_longest_ago_is_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(handovers, "REMEMBERED", 2)
    throttle = HintThrottle(clock=Clock())
    for name in "aaab":
        throttle.allows(name)
    assert not throttle.allows("a")  # this makes it the latest

    throttle.allows("c")

    assert not throttle.allows("a")
    assert [throttle.allows("b") for _ in range(4)] == [True, True, True, False]


def test_hints_are_throttled_by_the_workers_clock(bench, heirs):
    bench.port.refusal = Refusal.NOT_MINE
    for _ in range(5):
        heirs.start("p", [heir("t:0")])
    assert len(bench.port.hints) == 3

    bench.clock.advance(HINT_PAUSE)
    heirs.start("p", [heir("t:0")])

    assert len(bench.port.hints) == 4
