"""Parked tasks whose turn has come: started in this worker, or hinted at, or left alone."""

from dataclasses import replace

import pytest

from cachify_tasks._core.commands import Acquire, PutBack, Sweep
from cachify_tasks._core.replies import Heir
from cachify_tasks._worker import handovers
from cachify_tasks._worker.attempt import Hint
from cachify_tasks._worker.endings import Deadly, Unknown
from cachify_tasks._worker.handovers import HINT_PAUSE, PATIENCE, HandOvers, HintThrottle
from cachify_tasks._worker.port import Later, Refusal
from cachify_tasks._worker.verdicts import Leave, Start
from tests.worker.fakes import KIND, Clock, heir, only


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


@pytest.mark.parametrize("refusal", [Refusal.NO_CAPACITY, Refusal.NOT_YET, Refusal.NOT_MINE])
def test_an_heir_that_this_worker_cannot_run_is_hinted_at(bench, heirs, refusal):
    bench.port.refusal = refusal

    heirs.start("p", [heir("t:0", token=7)], starter="r")

    (hint,) = bench.port.hints
    assert (hint.pool, hint.heir.holder, hint.message, hint.starter) == ("p", "t:0", "t:0", "r")
    assert bench.port.ran == []
    assert len(heirs) == 0


def test_an_heir_of_a_queue_to_which_this_worker_cannot_send_is_put_aside(bench, heirs):
    bench.port.refusal = Refusal.ELSEWHERE

    heirs.start("p", [heir("t:0", token=7)])

    (put_back,) = only(bench, PutBack)
    assert (put_back.holder, put_back.token, put_back.pause_ms, put_back.unknown) == ("t:0", 7, 1000, False)
    assert bench.port.ran == bench.port.hints == []


def test_the_worker_says_how_many_heirs_wait_when_it_asks_for_capacity(bench, heirs):
    heirs.start("p", [heir(f"t{n}:0") for n in range(3)])

    assert bench.port.asked_with == [0, 1, 2]
    assert len(heirs) == 3


def test_an_heir_that_was_revoked_while_it_was_parked_neither_starts_nor_is_hinted_at(bench, heirs):
    bench.port.revoked = {"t:0"}

    heirs.start("p", [heir("t:0")])

    assert (bench.port.ran, bench.port.hints, len(heirs)) == ([], [], 0)


def test_an_heir_of_another_framework_is_put_aside_for_its_own_workers(bench, heirs):
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


def reserved(bench, *holders: str) -> list[Heir]:
    """Heirs as the store names them: in "p", a slot is reserved for the first of these; the others wait behind it."""
    token = bench.acquire_elsewhere("other:0").token
    for holder in holders:
        bench.acquire_elsewhere(holder)
    return list(bench.release_elsewhere("other:0", token).heirs)


def test_a_task_that_this_worker_does_not_know_is_put_aside_and_the_next_one_starts(bench, heirs, caplog):
    bench.port.refusals = {"lost:0": Refusal.UNKNOWN}

    heirs.start("p", reserved(bench, "lost:0", "t:0"))

    assert [delivery.attempt.holder for delivery in bench.port.ran] == ["t:0"]
    assert (bench.port.hints, bench.port.ended) == ([], [])
    assert bench.holders() == {"t:0": True}
    (put_back,) = only(bench, PutBack)
    assert (put_back.holder, put_back.unknown, put_back.pause_ms) == ("lost:0", True, 1000)


def test_a_task_that_was_unknown_for_longer_is_put_aside_for_longer(bench, heirs):
    bench.port.refusal = Refusal.UNKNOWN

    heirs.start("p", [heir("t:0", unknown_us=seconds * 1_000_000) for seconds in (0, 3, 599)])

    assert [command.pause_ms for command in only(bench, PutBack)] == [1000, 3000, 10_000]


def test_a_task_that_no_worker_has_known_for_the_grace_ends(bench, heirs, caplog):
    (lost,) = reserved(bench, "lost:0", "t:0")
    bench.port.refusals = {"lost:0": Refusal.UNKNOWN}

    heirs.start("p", [lost._replace(unknown_us=600_000_000)])

    assert bench.port.ended == [("lost", "lost:0", Unknown(600))]
    assert [delivery.attempt.holder for delivery in bench.port.ran] == ["t:0"]
    assert bench.parked() == 0
    assert "the task lost, parked in pool 'p', has ended without a run: for 600 s no worker of its queue" in caplog.text


def test_a_task_whose_rate_limit_does_not_let_it_run_holds_no_slot(bench, heirs):
    bench.port.refusals = {"slow:0": Later(4.5)}

    heirs.start("p", reserved(bench, "slow:0", "t:0"))

    assert bench.holders() == {"t:0": True}
    (put_back,) = only(bench, PutBack)
    assert (put_back.holder, put_back.unknown, put_back.pause_ms) == ("slow:0", False, 4500)


@pytest.mark.parametrize(("deaths", "ends"), [(2, False), (3, True), (4, True)])
def test_a_task_that_has_killed_its_process_too_often_ends(bench, heirs, deaths, ends):
    (deadly,) = reserved(bench, "deadly:0")

    heirs.start("p", [deadly._replace(deaths=deaths)])

    assert bench.port.ended == ([("deadly", "deadly:0", Deadly(deaths))] if ends else [])
    assert len(bench.port.ran) == (not ends)


def test_a_task_may_kill_its_process_for_ever_where_the_user_says_so(bench, heirs):
    bench.runtime.settings = replace(bench.runtime.settings, max_deaths=None)

    heirs.start("p", [heir("deadly:0", deaths=1000)])

    assert len(bench.port.ran) == 1


def test_an_envelope_that_cannot_be_read_ends_its_task_and_does_not_stop_the_next_heir(bench, heirs, caplog):
    (broken,) = reserved(bench, "broken:0", "t:0")

    heirs.start("p", [broken._replace(envelope=b"\xff")])

    ((task_id, message, why),) = bench.port.ended
    assert (task_id, message) == ("broken", None)
    assert "UnicodeDecodeError" in repr(why)
    assert [delivery.attempt.holder for delivery in bench.port.ran] == ["t:0"]
    assert "the task broken, parked in pool 'p', has ended without a run" in caplog.text


def test_a_message_whose_content_cannot_be_read_ends_its_task(bench, heirs):
    bench.port.unreadable = {"broken:0"}

    heirs.start("p", reserved(bench, "broken:0", "t:0"))

    ((task_id, message, _),) = bench.port.ended
    assert (task_id, message) == ("broken", "broken:0")
    assert [delivery.attempt.holder for delivery in bench.port.ran] == ["t:0"]


def test_a_task_whose_end_could_not_be_recorded_stays(bench, heirs, monkeypatch, caplog):
    def end(*_):
        raise ConnectionError("no result backend")

    (broken,) = reserved(bench, "broken:0")
    monkeypatch.setattr(bench.port, "end", end)

    heirs.start("p", [broken._replace(envelope=b"\xff")])

    assert bench.holders() == {"broken:0": True}
    assert "could not be started: ConnectionError('no result backend')" in caplog.text


def test_a_hint_at_a_task_that_this_worker_does_not_know_ends_its_reservation(bench, heirs):
    (lost,) = reserved(bench, "lost:0", "t:0")

    heirs.on_unknown_hint(Hint(pool="p", token=lost.token), "lost:0")

    assert bench.holders() == {"t:0": True}
    assert [command.unknown for command in only(bench, PutBack)] == [True]


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


def test_a_slot_is_not_kept_for_long_for_an_heir_that_waits_here(bench, heirs):
    (waits,) = reserved(bench, "t:0", "next:0")
    heirs.start("p", [waits], starter="r", sure_until=10**6)
    ((seconds, call),) = bench.port.later
    assert seconds == PATIENCE
    assert bench.holders() == {"t:0": True}

    call()

    assert bench.holders() == {}
    (delivery,) = bench.port.ran
    assert delivery.state.stored.sure_until == 0.0  # another worker may start it: it must ask
    assert heirs.waiting() == [delivery]
    (swept,) = bench.send(Sweep(pool="p", start_ms=10_000)).heirs
    assert swept.holder == "t:0"


def test_a_slot_is_kept_longer_each_time_for_an_heir_that_still_waits_here(bench, heirs):
    for token in range(1, 7):
        heirs.start("p", [heir("t:0", token=token)])
        bench.port.later[-1][1]()

    assert [seconds / PATIENCE for seconds, _ in bench.port.later] == [1, 2, 4, 8, 8, 8]


def test_an_heir_whose_slot_was_not_kept_starts_here_if_no_other_worker_was_faster(bench, heirs):
    heirs.start("p", reserved(bench, "t:0", "next:0"), starter="r", sure_until=10**6)
    ((_, call),) = bench.port.later
    call()
    (delivery,) = bench.port.ran

    bench.worker.ask_now(delivery)

    assert bench.port.applied == [Start(delivery.state.slot.token)]
    assert bench.holders() == {"t:0": False}


def test_an_heir_that_another_worker_has_started_does_not_start_here(bench, heirs):
    heirs.start("p", reserved(bench, "t:0"), starter="r", sure_until=10**6)
    ((_, call),) = bench.port.later
    call()
    bench.send(Sweep(pool="p", start_ms=10_000))
    bench.acquire_elsewhere("t:0")

    bench.worker.ask_now(bench.port.ran[0])

    assert bench.port.applied == [Leave()]


def test_the_slot_of_an_heir_that_has_begun_is_kept(bench, heirs):
    heirs.start("p", reserved(bench, "t:0"))
    ((_, call),) = bench.port.later
    heirs.on_turn(bench.port.ran[0])

    call()

    assert only(bench, PutBack) == []


def test_an_heir_that_begins_at_once_is_not_looked_at_again(bench, heirs, monkeypatch):
    monkeypatch.setattr(bench.port, "run", heirs.on_turn)

    heirs.start("p", [heir("t:0")])

    assert bench.port.later == []


def test_of_an_heir_that_got_another_reservation_that_one_is_not_kept(bench, heirs):
    for token in (1, 2):
        heirs.start("p", [heir("t:0", token=token)])

    for _, call in bench.port.later:
        call()

    assert [command.token for command in only(bench, PutBack)] == [2]


def test_a_hint_at_an_heir_that_waits_here_does_not_count_as_its_turn(bench, heirs):
    heirs.start("p", [heir("t:0")])

    heirs.on_turn(bench.hinted("t"))

    assert heirs.waiting() == bench.port.ran
