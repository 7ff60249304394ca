"""The store does not answer, or carrying out a verdict fails: nobody else pays for it."""

import pytest

from cachify_tasks import Reschedule
from cachify_tasks._core.commands import Acquire
from cachify_tasks._worker.outage import FIRST
from cachify_tasks._worker.verdicts import (
    AskAgain,
    Fail,
    SendLater,
    Start,
    StartWithoutSlot,
)
from tests.worker.fakes import Bench, limited, only, parked_behind_another

# The store is out of reach


@pytest.mark.parametrize(
    ("choice", "verdict"),
    [("retry", AskAgain()), ("run", StartWithoutSlot()), ("raise", Fail("store", "the store is out of reach"))],
)
def test_on_store_error_says_what_a_delivery_does_without_the_store(choice, verdict, caplog):
    bench = Bench(on_store_error=choice)
    bench.store.down = True

    delivery = bench.arrive("t")

    assert bench.port.applied == [verdict]
    assert delivery.state.slot is None
    assert "asking for slots: the store is out of reach" in caplog.text


@pytest.mark.parametrize("choice", ["retry", "run", "raise"])
def test_a_parked_task_waits_for_the_store_whatever_on_store_error_says(choice):
    bench = Bench(on_store_error=choice)
    token = parked_behind_another(bench)
    bench.release_elsewhere("other:0", token)
    bench.store.down = True

    bench.worker.ask_now(bench.hinted("t"))

    assert bench.port.applied == [AskAgain()]


def test_a_delivery_that_asks_again_is_the_same_arrival_and_may_be_a_late_copy_by_now(bench):
    bench.store.down = True
    delivery = bench.arrive("t")
    bench.store.down = False
    bench.clock.advance(FIRST)

    bench.worker.ask_now(delivery)

    first, second = only(bench, Acquire)
    assert (first.request_id, first.first_delivery) == (second.request_id, True)
    assert not second.first_delivery
    assert isinstance(bench.port.applied[-1], Start)


def test_an_answer_ends_the_growing_pauses_of_an_outage(bench):
    bench.worker.outage.next_pause()
    bench.worker.outage.next_pause()

    bench.arrive("t")

    assert bench.worker.outage.next_pause() == 0.5


# Defects of others


def test_an_error_while_a_verdict_is_carried_out_costs_nobody_and_is_tried_again(bench, caplog):
    bench.port.fails = {Start: RuntimeError("a defect")}

    delivery = bench.arrive("t")

    assert [type(verdict) for verdict in bench.port.applied] == [Start, AskAgain]
    assert bench.holders() == {}
    assert delivery.state.slot is None
    assert "job[t] could not be handled; trying again" in caplog.text
    bench.port.fails = {}
    bench.worker.ask_now(delivery)
    assert isinstance(bench.port.applied[-1], Start)
    assert bench.holders() == {"t:0": False}


def test_an_error_in_asking_again_costs_nobody_either(bench, caplog):
    bench.port.fails = {AskAgain: RuntimeError("a defect")}
    bench.store.down = True

    bench.arrive("t")

    assert "job[t] could not be handled; trying again" in caplog.text
    assert "job[t] could not be tried again" in caplog.text


def test_a_verdict_that_the_broker_refused_is_tried_again():
    bench = Bench(limited(Reschedule()))
    bench.arrive("first")
    bench.port.undone = (SendLater,)

    second = bench.arrive("second")
    assert [type(verdict) for verdict in bench.port.applied] == [Start, SendLater, AskAgain]

    bench.port.undone = ()
    bench.worker.ask_now(second)
    assert isinstance(bench.port.applied[-1], SendLater)
