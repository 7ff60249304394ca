"""A prefork worker's gate without its store, and after its connection to the broker was lost."""

from typing import Any

import pytest
from celery.worker.state import revoked

from cachify_tasks._core.commands import Acquire, Release, StartReserved
from cachify_tasks.celery.prefork_gate import CHECK_EVERY
from tests.celery.fake_worker import LEASE_S, plain
from tests.celery.prefork_bench import kinds, queue_of, strand

REVOKED: Any = revoked

# The store is out of reach


def test_a_request_that_comes_while_the_store_is_down_waits_and_asks_again(bench):
    bench.store.down = True
    bench.receive("park", "p", task_id="t")
    bench.turn()
    bench.connection.answer()
    bench.turn()
    assert bench.semaphore.value == 2
    assert bench.channel.acknowledged == []

    bench.receive("park", "q", task_id="meanwhile")
    bench.turn(2)
    assert len(bench.connection.sent) == 1  # the loop does not stand still while it connects
    assert bench.semaphore.value == 2
    assert bench.consumer.qos.value == 8 + 2  # tasks without a pool go on

    bench.store.down = False
    bench.gate.resume()
    bench.hub.overslept = False
    bench.clock.advance(1)
    bench.turn()  # a timer of this iteration asks again
    assert not bench.hub.overslept
    bench.turn()
    bench.answer()
    assert bench.pool.ids() == ["t", "meanwhile"]
    assert bench.consumer.qos.value == 8
    (first, again) = [c for commands in bench.connection.sent for c in commands if plain(c.holder) == "t:0"]
    assert (again.request_id, again.first_delivery) == (first.request_id, False)


def test_a_request_whose_batch_was_not_sent_when_the_store_went_away_is_not_sent(bench):
    bench.receive("park", "p", task_id="sent")
    bench.turn()
    bench.receive("park", "q", task_id="waits")
    bench.store.down = True

    bench.connection.answer()
    bench.turn(2)

    assert len(bench.connection.sent) == 1
    assert bench.semaphore.value == 2


@pytest.mark.parametrize(("choice", "key"), [("run", "open"), ("raise", "failure")])
def test_on_store_error_decides_at_once_while_the_store_is_down(make_bench, choice, key):
    bench = make_bench(cachify_on_store_error=choice)
    bench.store.down = True
    bench.gate.core.outage.begin()

    delivery = bench.receive("park", "p", task_id="t")

    assert bench.pool.ids() == ["t"]
    assert list(delivery.request.request_dict["cachify_admission"]) == [key]
    assert bench.connection.sent == []


def test_ends_of_runs_that_the_store_did_not_hear_of_are_sent_again_first(bench):
    first = bench.running("first", "p")
    bench.store.down = True
    first.succeed()
    bench.turn()
    bench.connection.answer()
    assert bench.holders("p") == {"first:0": False}
    bench.store.down = False
    bench.gate.resume()
    bench.connection.sent.clear()

    bench.receive("park", "p", task_id="second")
    bench.turn()

    assert kinds(bench.connection.sent[0]) == [(Release, "first:0"), (Acquire, "second:0")]
    bench.answer()
    assert bench.pool.ids() == ["first", "second"]


def test_ends_of_runs_are_sent_again_though_nothing_else_happens(bench):
    first = bench.running("first", "p")
    bench.store.down = True
    first.succeed()
    bench.turn()
    bench.connection.answer()
    bench.store.down = False
    bench.gate.resume()

    bench.clock.advance(CHECK_EVERY)
    bench.turn()
    bench.answer()

    assert bench.holders("p") == {}


# The connection to the broker is lost


def reconnect(bench) -> None:
    assert bench.hub is not None
    bench.hub.reset()
    bench.semaphore.clear()
    bench.gate.register(bench.hub)
    bench.turn()


def test_a_new_connection_to_the_broker_watches_everything_again(bench):
    reconnect(bench)
    bench.gate.register(bench.hub)  # a lost connection need not cost the timers

    assert bench.connection.watched_again == 3
    assert len(bench.hub.readers) == 1
    assert len([timer for timer in bench.hub.timers if not timer.cancelled]) == 1
    bench.running("t", "p").succeed()
    bench.turn()
    bench.answer()
    assert bench.holders("p") == {}


def test_a_slot_that_was_granted_for_a_message_of_the_lost_connection_is_freed(bench):
    bench.receive("park", "p", task_id="t")
    bench.turn()
    assert len(bench.connection.batches) == 1

    reconnect(bench)
    bench.answer()

    assert bench.pool.jobs == []
    assert bench.holders("p") == {}
    bench.receive("park", "p", task_id="t", redelivered=True)  # it comes again
    bench.turn()
    bench.answer()
    assert bench.pool.ids() == ["t"]


def test_a_message_of_the_lost_connection_is_not_asked_for_any_more(bench):
    bench.receive("park", "p", task_id="t")

    reconnect(bench)

    assert bench.connection.sent == []


def test_a_message_that_waited_for_the_store_does_not_come_twice_after_a_reconnect(bench):
    bench.store.down = True
    bench.receive("park", "p", task_id="t")
    bench.turn()
    bench.connection.answer()
    bench.store.down = False
    bench.gate._loop_starts += 1  # the timer of the hub has survived

    bench.clock.advance(1)
    bench.turn(2)

    assert len(bench.connection.sent) == 1


def test_heirs_that_wait_for_a_process_wait_again_after_a_reconnect(make_bench):
    bench = make_bench(size=1)
    strand(bench, "a")
    busy = bench.running("busy", "busy")
    bench.gate.offer("a", bench.release_elsewhere("a"))
    bench.turn()
    assert queue_of(bench) == ["heir-a"]
    bench.semaphore.value = 0

    bench.hub.reset()
    bench.semaphore._waiting.clear()
    bench.gate.register(bench.hub)
    bench.gate.register(bench.hub)
    bench.turn()
    busy.succeed()
    bench.turn(2)
    bench.answer()

    assert bench.pool.ids() == ["busy", "heir-a"]


def test_heirs_that_were_about_to_ask_ask_again_after_a_reconnect(bench):
    strand(bench, "a")
    bench.gate.offer("a", bench.release_elsewhere("a"))

    reconnect(bench)
    bench.answer()

    assert [kinds(commands) for commands in bench.connection.sent[-1:]] == [[(StartReserved, "heir-a:0")]]
    assert bench.pool.ids() == ["heir-a"]


def test_the_slot_of_a_job_that_was_dropped_with_the_connection_ends_with_its_lease(bench, caplog):
    job = bench.running("t", "p")
    kept = bench.running("kept", "q")
    del bench.pool._pool._cache[job._job]

    reconnect(bench)

    assert [delivery.attempt.task_id for delivery in bench.gate.core.slots.holding()] == ["kept"]
    assert bench.holders("p") == {"t:0": False}
    assert "park[t] was let go with its connection" in caplog.text
    bench.clock.advance(LEASE_S + 1)
    assert bench.holders("p") == {}
    assert kept._job in bench.pool._pool._cache


def test_it_looks_for_processes_that_have_ended_oftener_than_celery_does(bench):
    before = bench.gate.worker.pool.looks

    bench.clock.advance(CHECK_EVERY)
    bench.turn()

    assert bench.gate.worker.pool.looks == before + 1
