"""How slots are freed: when a run has ended, when its message is acknowledged, when the worker shuts down."""

import pytest

from cachify_tasks._core.commands import Release, Renew, Withdraw
from cachify_tasks._worker.verdicts import (
    Discard,
    Leave,
    Start,
)
from tests.worker.fakes import LEASE_S, limited, only, parked_behind_another

# Ends


@pytest.mark.parametrize("requeue", [True, False])
def test_a_run_that_has_ended_frees_its_slot(bench, requeue):
    delivery = bench.arrive("t")

    bench.worker.on_run_end(delivery, requeue=requeue)

    assert bench.holders() == {}
    bench.worker.ask_now(delivery.again())
    assert isinstance(bench.port.applied[-1], Start if requeue else Discard)


def test_a_parked_task_that_is_acknowledged_early_is_no_more_in_the_store(bench):
    token = parked_behind_another(bench)
    bench.release_elsewhere("other:0", token)
    hint = bench.hinted("t")
    bench.worker.ask_now(hint)

    bench.worker.on_acknowledged(hint, early=True)

    (renewal,) = only(bench, Renew)
    assert (renewal.started, renewal.token) == (True, hint.state.slot.token)
    bench.worker.slots.abandon(hint)
    bench.clock.advance(LEASE_S + 1)
    bench.arrive("next")
    assert bench.port.ran == []  # with this worker it is lost, as always with early acknowledgement


def test_a_parked_task_that_is_acknowledged_late_stays_in_the_store_until_its_run_has_ended(bench):
    token = parked_behind_another(bench)
    bench.release_elsewhere("other:0", token)
    hint = bench.hinted("t")
    bench.worker.ask_now(hint)

    bench.worker.on_acknowledged(hint, early=False)

    assert only(bench, Renew) == []
    assert only(bench, Withdraw) == []
    bench.worker.slots.abandon(hint)
    bench.clock.advance(LEASE_S + 1)
    bench.arrive("next")
    assert [delivery.attempt.holder for delivery in bench.port.ran] == ["t:0"]


@pytest.mark.parametrize("early", [True, False])
def test_a_parked_task_that_is_acknowledged_without_a_slot_leaves_the_queue(bench, early):
    parked_behind_another(bench)
    revoked = bench.hinted("t")

    bench.worker.on_acknowledged(revoked, early=early)

    assert bench.parked() == 0
    assert len(only(bench, Withdraw)) == 1


def test_a_report_that_the_store_did_not_get_is_sent_again(bench, caplog):
    first = bench.arrive("first")
    bench.arrive("second")
    bench.store.down = True
    bench.worker.on_run_end(first, requeue=False)
    assert bench.holders() == {"first:0": False}
    assert "releasing slots: the store is out of reach" in caplog.text

    bench.worker.resend()
    assert len(bench.worker.outbox.entries) == 1
    bench.store.down = False
    bench.worker.resend()

    assert len(bench.worker.outbox.entries) == 0
    assert [delivery.attempt.holder for delivery in bench.port.ran] == ["second:0"]


def test_a_resend_stops_at_the_first_failure_and_loses_nothing(bench):
    bench.limit = limited(max_size=3)
    deliveries = [bench.arrive(f"t{n}") for n in range(3)]
    bench.store.down = True
    for delivery in deliveries:
        bench.worker.on_run_end(delivery, requeue=False)
    tried = len(bench.store.sent)

    bench.worker.resend()

    assert len(bench.store.sent) == tried + 1
    assert [entry.command.holder for entry in bench.worker.outbox.take()] == ["t0:0", "t1:0", "t2:0"]


def test_a_release_that_comes_after_its_lease_was_lost_is_told_in_the_log(bench, caplog):
    delivery = bench.arrive("t")
    bench.clock.advance(LEASE_S + 1)
    bench.acquire_elsewhere("other:0")

    bench.worker.on_run_end(delivery, requeue=False)

    assert bench.holders() == {"other:0": False}
    assert "the lease of t:0 on pool 'p' was lost before its run ended" in caplog.text


def test_an_acknowledgement_that_is_resent_after_the_runs_end_is_no_lost_lease(bench, caplog):
    token = parked_behind_another(bench)
    bench.release_elsewhere("other:0", token)
    hint = bench.hinted("t")
    bench.worker.ask_now(hint)
    bench.store.down = True
    bench.worker.on_acknowledged(hint, early=True)
    bench.store.down = False
    bench.worker.on_run_end(hint, requeue=False)

    bench.worker.resend()

    assert [type(command) for command in bench.store.sent[-3:]] == [Renew, Release, Renew]
    assert bench.holders() == {}
    assert "was lost" not in caplog.text


# Shutdown


def test_heirs_that_have_not_started_are_given_back_for_other_workers(bench):
    first = bench.arrive("first")
    bench.arrive("heir")
    bench.worker.on_run_end(first, requeue=False)
    (heir,) = bench.port.ran
    bench.port.accepting = False

    bench.worker.handovers.pass_on(bench.worker.give_back)

    assert bench.holders() == {}
    assert bench.parked() == 1
    bench.port.applied.clear()
    bench.worker.ask_now(heir)  # a thread of the pool was about to begin it
    assert bench.port.applied == [Leave()]
    assert bench.holders() == {}


def test_giving_back_an_heir_reserves_for_nobody(bench):
    token = parked_behind_another(bench, "heir")
    bench.arrive("next")
    (reserved,) = bench.release_elsewhere("other:0", token).heirs
    heir = bench.hinted("heir", token=reserved.token)

    assert bench.worker.give_back(heir)

    assert bench.holders() == {}
    assert bench.parked() == 2
    assert bench.port.ran == []


def test_giving_back_an_heir_that_runs_elsewhere_by_now_does_no_harm(bench):
    token = parked_behind_another(bench)
    bench.release_elsewhere("other:0", token)
    bench.worker.ask_now(bench.hinted("t"))

    assert bench.worker.give_back(bench.hinted("t"))

    assert bench.holders() == {"t:0": False}


def test_giving_back_says_whether_the_store_answers(bench, caplog, monkeypatch):
    parked_behind_another(bench)
    assert bench.worker.give_back(bench.hinted("t"))
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "execute", lambda command: "\ud800".encode())  # cannot be sent
        assert bench.worker.give_back(bench.hinted("t"))
    assert "the parked task job[t] could not be given back" in caplog.text

    bench.store.down = True

    assert not bench.worker.give_back(bench.hinted("t"))


def test_a_worker_that_has_shut_down_frees_what_never_ran_and_keeps_what_still_runs(bench):
    bench.limit = limited(max_size=3)
    runs, acknowledged = bench.arrive("runs"), bench.arrive("acknowledged")
    bench.arrive("unacknowledged")

    bench.worker.release_all(lambda delivery: delivery is runs, lambda delivery: delivery is acknowledged)

    assert bench.holders() == {"runs:0": False}
    assert [(command.holder, command.requeue) for command in only(bench, Release)] == [
        ("acknowledged:0", False), ("unacknowledged:0", True),
    ]  # fmt: skip
