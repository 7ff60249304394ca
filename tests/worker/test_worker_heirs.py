"""Tasks that start in a slot that was reserved for them: heirs and hints."""

from dataclasses import replace

import pytest

from cachify_tasks import Drop, Park, Raise, Reschedule
from cachify_tasks._core.commands import Release, StartReserved
from cachify_tasks._worker.attempt import Attempt
from cachify_tasks._worker.outage import FIRST
from cachify_tasks._worker.verdicts import (
    AskAgain,
    Leave,
    Revoke,
    SendLater,
    Start,
    StartWith,
)
from tests.worker.fakes import START_S, Bench, FakeDelivery, limited, only, parked_behind_another

# From one task to the next


def test_the_heir_of_a_freed_slot_starts_in_the_worker_that_released(bench):
    first = bench.arrive("first")
    bench.arrive("second")

    bench.worker.on_run_end(first, requeue=False)

    (heir,) = bench.port.ran
    assert heir.attempt.holder == "second:0"
    assert bench.holders() == {"second:0": True}
    bench.worker.ask_now(heir)
    assert bench.port.applied[2:] == [Start(heir.state.slot.token)]
    assert bench.port.taken_over == []  # no message of the broker led to it
    assert bench.holders() == {"second:0": False}
    assert len(bench.worker.handovers) == 0


def test_parked_tasks_run_in_the_order_in_which_they_arrived(bench):
    running = bench.arrive("t0")
    for number in range(1, 6):
        bench.arrive(f"t{number}")

    for _ in range(5):
        bench.worker.on_run_end(running, requeue=False)
        running = bench.port.ran[-1]
        bench.worker.ask_now(running)

    assert [delivery.attempt.task_id for delivery in bench.port.ran] == ["t1", "t2", "t3", "t4", "t5"]


def test_an_heir_is_started_in_the_thread_that_starts_heirs(bench):
    first = bench.arrive("first")
    bench.arrive("second")
    bench.port.calls = []

    bench.worker.on_run_end(first, requeue=False)

    assert bench.port.ran == []
    (call,) = bench.port.calls
    call()
    assert len(bench.port.ran) == 1


def test_a_worker_that_cannot_start_heirs_reserves_no_slot_for_them(bench):
    first = bench.arrive("first")
    bench.arrive("second")
    bench.port.accepting = False

    bench.worker.on_run_end(first, requeue=False)

    assert (bench.port.ran, bench.port.hints) == ([], [])
    assert bench.holders() == {}
    assert bench.parked() == 1


def test_a_hint_at_a_task_whose_slot_is_reserved_starts_it_and_is_acknowledged(bench):
    token = parked_behind_another(bench)
    (named,) = bench.release_elsewhere("other:0", token).heirs
    hint = bench.hinted("t")

    bench.worker.ask_now(hint)

    assert bench.port.applied == [Start(named.token)]
    assert bench.port.taken_over == [hint]
    assert not hint.state.stored.hinted


@pytest.mark.parametrize("what", ["before its turn", "running", "ended", "reserved for another worker"])
def test_a_hint_that_comes_at_another_time_starts_nothing_and_is_acknowledged(bench, what):
    token = parked_behind_another(bench)
    if what == "reserved for another worker":
        bench.send(
            Release(
                pool="p", holder="other:0", token=token, request_id="there", start_ms=10_000, tomb_ms=1000,
                can_start_heirs=True, reserve_for_me=True,
            )
        )  # fmt: skip
    elif what != "before its turn":
        bench.release_elsewhere("other:0", token)
        run = bench.hinted("t")
        bench.worker.ask_now(run)
        if what == "ended":
            bench.worker.on_run_end(run, requeue=False)
    bench.port.applied.clear()
    bench.port.taken_over.clear()

    hint = bench.hinted("t")
    bench.worker.ask_now(hint)

    assert bench.port.applied == [Leave()]
    assert bench.port.taken_over == [hint]


def test_a_hint_that_the_store_did_not_answer_is_not_acknowledged_and_asks_again(bench):
    token = parked_behind_another(bench)
    bench.release_elsewhere("other:0", token)
    hint = bench.hinted("t")
    bench.store.down = True

    bench.worker.ask_now(hint)

    assert bench.port.applied == [AskAgain()]
    assert bench.port.taken_over == []
    bench.store.down = False
    bench.clock.advance(FIRST)
    bench.worker.ask_now(hint)
    assert isinstance(bench.port.applied[-1], Start)


def test_a_task_without_a_limit_any_more_still_takes_the_slot_reserved_for_it(bench):
    token = parked_behind_another(bench)
    bench.release_elsewhere("other:0", token)
    hint = bench.hinted("t")
    hint.limit = None

    bench.worker.ask_now(hint)

    assert isinstance(bench.port.applied[-1], Start)
    assert only(bench, StartReserved)[0].limit == 0
    assert bench.holders() == {"t:0": False}


def test_a_task_that_is_revoked_at_its_turn_frees_its_slot_for_the_next(bench):
    token = parked_behind_another(bench, "revoked")
    bench.arrive("next")
    bench.release_elsewhere("other:0", token)
    bench.port.applied.clear()
    bench.port.revoked = {"revoked:0"}

    bench.worker.ask_now(bench.hinted("revoked"))

    assert bench.port.applied == []
    assert [delivery.attempt.holder for delivery in bench.port.ran] == ["next:0"]
    assert bench.holders() == {"next:0": True}


@pytest.mark.parametrize(
    ("then", "verdict"),
    [(Drop(), Revoke), (Reschedule(), SendLater), (Raise(), StartWith), (lambda: 1, StartWith)],
)
def test_a_task_that_waited_too_long_meets_the_other_strategy_and_holds_its_slot_until_that_has_acted(then, verdict):
    bench = Bench(limited(Park(max_age=1, then=then)))
    token = parked_behind_another(bench)
    bench.clock.advance(1.5)
    (named,) = bench.release_elsewhere("other:0", token).heirs
    hint = bench.hinted("t", waited_ms=named.waited_ms)

    bench.worker.ask_now(hint)

    (decided,) = bench.port.applied
    assert isinstance(decided, verdict)
    assert decided.token == named.token
    if verdict is StartWith:  # it acts where the task runs
        assert bench.holders() == {"t:0": False}
        bench.worker.on_run_end(hint, requeue=False)
    assert bench.holders() == {}
    assert bench.parked() == 0


def test_an_overdue_task_that_could_not_be_sent_again_goes_back_to_the_queue():
    bench = Bench(limited(Park(max_age=1, then=Reschedule())))
    token = parked_behind_another(bench)
    bench.clock.advance(1.5)
    (named,) = bench.release_elsewhere("other:0", token).heirs
    hint = bench.hinted("t", waited_ms=named.waited_ms)
    bench.port.undone = (SendLater,)

    bench.worker.ask_now(hint)

    assert [type(verdict) for verdict in bench.port.applied] == [SendLater, AskAgain]
    (release,) = only(bench, Release)
    assert release.requeue
    assert bench.holders() == {"t:0": True}  # its turn comes again at once
    assert [delivery.attempt.holder for delivery in bench.port.ran] == ["t:0"]


# Heirs that start without asking


@pytest.fixture
def reserved() -> Bench:
    """One thread starts all tasks of this worker, so that a release reserves for the worker itself."""
    bench = Bench()
    bench.port.reserves_for_itself = True
    return bench


def own_heir(bench):
    """An heir whose slot this worker has just reserved for itself."""
    first = bench.arrive("first")
    bench.arrive("heir")
    bench.worker.on_run_end(first, requeue=False)
    (heir,) = bench.port.ran
    return heir, bench.worker.request(heir)


def test_an_heir_begins_at_once_while_its_reservation_is_sure_and_is_reported_later(reserved):
    heir, command = own_heir(reserved)
    reserved.clock.advance(START_S * 0.49)

    assert reserved.worker.begin_reserved(heir, command)

    assert heir.state.slot.token == heir.state.stored.token
    assert [entry.command for entry in reserved.worker.outbox.take()] == [command]
    assert reserved.holders() == {"heir:0": True}  # the store has not heard of it


def test_an_heir_asks_when_its_reservation_may_have_ended(reserved):
    heir, command = own_heir(reserved)
    reserved.clock.advance(START_S * 0.5)

    assert not reserved.worker.begin_reserved(heir, command)

    assert heir.state.slot is None
    assert len(reserved.worker.outbox.entries) == 0


def test_a_reservation_is_sure_from_when_its_release_was_first_sent(reserved):
    first = reserved.arrive("first")
    reserved.arrive("heir")
    reserved.store.down = True
    reserved.worker.on_run_end(first, requeue=False)  # it may have reached the store: the reply alone may be lost
    reserved.store.down = False
    reserved.clock.advance(4)

    reserved.worker.resend()

    (heir,) = reserved.port.ran
    assert heir.state.stored.sure_until == reserved.clock.now - 4 + START_S / 2


def test_an_heir_asks_when_the_worker_is_shutting_down(reserved):
    heir, command = own_heir(reserved)
    reserved.port.accepting = False

    assert not reserved.worker.begin_reserved(heir, command)


def test_an_heir_that_waited_too_long_asks(reserved):
    reserved.limit = reserved.port.limit = limited(Park(max_age=1))
    first = reserved.arrive("first")
    reserved.arrive("heir")
    reserved.clock.advance(1.5)
    reserved.worker.on_run_end(first, requeue=False)
    (heir,) = reserved.port.ran

    assert not reserved.worker.begin_reserved(heir, reserved.worker.request(heir))


def test_only_heirs_that_were_reserved_for_this_worker_begin_without_asking(bench, reserved):
    delivered = FakeDelivery(Attempt("t"), bench.limit)
    assert not bench.worker.begin_reserved(delivered, bench.worker.request(delivered))

    anybodys, command = own_heir(bench)  # this worker reserves for no one in particular
    assert not bench.worker.begin_reserved(anybodys, command)


def test_an_heir_that_goes_back_to_the_broker_reserves_for_nobody_in_particular(reserved):
    first = reserved.arrive("first")

    reserved.worker.on_run_end(first, requeue=True)

    (release,) = only(reserved, Release)
    assert (release.requeue, release.reserve_for_me) == (True, False)


def test_a_start_that_is_reported_in_time_keeps_its_lease(reserved, caplog):
    heir, command = own_heir(reserved)
    reserved.worker.begin_reserved(heir, command)

    reserved.worker.resend()

    assert reserved.holders() == {"heir:0": False}
    assert not heir.state.slot.lost
    assert caplog.text == ""


def test_a_start_that_is_reported_too_late_has_lost_its_lease(reserved, caplog):
    heir, command = own_heir(reserved)
    reserved.worker.begin_reserved(heir, command)
    slot = heir.state.slot
    reserved.clock.advance(START_S + 1)
    assert reserved.send(replace(command, request_id="elsewhere", starter="")).status == "granted"

    reserved.worker.resend()

    assert slot.lost
    assert "the lease of 'heir:0' on pool 'p' was lost before its run ended" in caplog.text


def test_the_slot_of_an_heir_whose_start_was_reported_after_its_reservation_had_ended_is_freed_all_the_same(reserved):
    """The store reserves for the same heir again, with another token than the one under which it ran."""
    heir, command = own_heir(reserved)
    reserved.arrive("next")
    reserved.port.loop = True
    reserved.worker.begin_reserved(heir, command)
    reserved.worker.on_run_end(heir, requeue=False)
    reserved.clock.advance(START_S + 1)

    reserved.worker.resend()

    assert reserved.holders() == {"next:0": True}
    assert [delivery.attempt.holder for delivery in reserved.port.ran] == ["heir:0", "next:0"]
    assert len(reserved.worker.outbox.entries) == 0
