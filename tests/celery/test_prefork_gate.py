"""The gate of prefork workers, one iteration of its event loop at a time."""

import threading
from typing import Any

import pytest
from celery.worker.state import revoked

from cachify_tasks._core.commands import Acquire, Release, Renew, StartReserved
from cachify_tasks._worker.verdicts import Start
from cachify_tasks.celery.prefork_gate import SOON
from tests.celery.prefork_bench import kinds, queue_of, strand

REVOKED: Any = revoked

# The batch


def test_requests_of_one_iteration_go_to_the_store_together(make_bench):
    bench = make_bench(size=3)
    for number in range(3):
        bench.receive("park", f"p{number}", task_id=f"t{number}")
    assert bench.connection.sent == []

    bench.turn()

    (commands,) = bench.connection.sent
    assert kinds(commands) == [(Acquire, f"t{n}:0") for n in range(3)]
    assert bench.pool.jobs == []
    bench.answer()
    assert bench.pool.ids() == ["t0", "t1", "t2"]


def test_ends_of_runs_go_before_requests_of_the_same_iteration(bench):
    first = bench.running("first", "p")
    bench.connection.sent.clear()

    bench.receive("park", "p", task_id="second")  # the worker gets it before it learns of the end
    first.succeed()
    bench.turn()

    (commands,) = bench.connection.sent
    assert kinds(commands) == [(Release, "first:0"), (Acquire, "second:0")]
    bench.answer()
    assert bench.pool.ids() == ["first", "second"]
    assert bench.parked("p") == 0


def test_the_loop_goes_on_while_the_store_takes_its_time(bench):
    bench.receive("park", "p", task_id="t")
    bench.turn()

    bench.receive("plain", task_id="other")

    assert bench.pool.ids() == ["other"]
    assert len(bench.connection.batches) == 1


def test_a_task_without_a_limit_is_dispatched_at_once(bench):
    bench.receive("plain", task_id="t")

    assert bench.pool.ids() == ["t"]
    assert bench.connection.sent == []


def test_a_task_whose_arguments_do_not_fit_its_key_is_dispatched_to_fail_where_it_runs(bench):
    delivery = bench.receive("park", task_id="t")

    assert bench.pool.ids() == ["t"]
    assert delivery.request.request_dict["cachify_admission"]["failure"][0] == "key"
    assert bench.connection.sent == []


def test_an_admission_that_was_forged_or_left_over_is_taken_out(bench):
    forged = bench.request("plain", task_id="t", cachify_admission={"slot": ["p", "h", 1, "r"]})

    bench.gate.apply(forged.cachify, Start(0))

    assert "cachify_admission" not in forged.request_dict


def test_a_task_that_was_revoked_before_its_turn_is_not_asked_for(bench):
    REVOKED.add("t")

    bench.receive("park", "p", task_id="t")
    bench.turn()

    assert bench.connection.sent == []
    assert bench.semaphore.value == 2


def test_a_task_that_is_revoked_while_the_store_is_asked_frees_its_slot_and_its_process(bench):
    bench.receive("park", "p", task_id="t")
    bench.turn()
    REVOKED.add("t")

    bench.answer()

    assert bench.pool.jobs == []
    assert bench.holders("p") == {}
    assert bench.semaphore.value == 2


# Refusals


@pytest.mark.parametrize("task", ["park", "drop", "again"])
def test_a_refused_task_frees_its_process_in_the_next_iteration(make_bench, task):
    bench = make_bench(size=2)
    bench.running("first", "p")
    bench.receive(task, "p", task_id="refused")
    bench.turn()

    bench.connection.answer()
    assert bench.semaphore.value == 0
    bench.turn()

    assert bench.semaphore.value == 1
    assert bench.channel.acknowledged == ["first", "refused"]
    assert bench.queued() == (task == "again")


def test_a_thousand_refusals_in_a_row_do_not_nest(make_bench):
    bench = make_bench(size=2)
    bench.running("first", "p")
    for number in range(1500):
        bench.receive("drop", "p", task_id=f"t{number}")

    for _ in range(3 * 1500):
        bench.turn()
        while bench.connection.batches:
            bench.connection.answer()

    assert len(bench.channel.acknowledged) == 1501
    assert bench.semaphore.value == 1


# From one task to the next


def test_an_heir_begins_without_asking_and_the_store_hears_of_it_soon(bench):
    first = bench.running("first", "p")
    bench.park("heir", "p")
    first.succeed()
    bench.turn()
    bench.connection.sent.clear()

    bench.connection.answer()

    assert bench.pool.ids() == ["first", "heir"]
    assert bench.connection.sent == []
    assert bench.holders("p") == {"heir:0": True}
    bench.clock.advance(SOON)
    bench.turn(2)
    assert [kinds(commands) for commands in bench.connection.sent] == [[(StartReserved, "heir:0")]]
    bench.answer()
    assert bench.holders("p") == {"heir:0": False}


def test_that_an_heir_has_begun_is_told_before_that_it_was_acknowledged_and_has_ended(bench):
    first = bench.running("first", "p")
    bench.park("heir", "p")
    first.succeed()
    bench.turn()
    bench.connection.answer()
    bench.connection.sent.clear()

    heir = bench.pool.jobs[-1]
    heir.accept()
    heir.succeed()
    bench.turn()

    (commands,) = bench.connection.sent
    assert kinds(commands) == [(StartReserved, "heir:0"), (Renew, "heir:0"), (Release, "heir:0")]
    bench.answer()
    assert bench.holders("p") == {}


def test_an_heir_whose_reservation_may_have_ended_asks_in_the_same_iteration(bench):
    first = bench.running("first", "p")
    bench.park("heir", "p")
    first.succeed()
    bench.turn()
    bench.connection.sent.clear()
    bench.clock.advance(6)

    bench.connection.answer()

    assert bench.pool.ids() == ["first"]
    assert [kinds(commands) for commands in bench.connection.sent] == [[(StartReserved, "heir:0")]]
    bench.answer()
    assert bench.pool.ids() == ["first", "heir"]


def test_an_heir_that_waited_too_long_does_not_run(bench):
    first = bench.running("first", "p")
    bench.park("heir", "p", "brief")
    bench.clock.advance(2)
    first.succeed()
    bench.turn()

    bench.answer()

    assert bench.pool.ids() == ["first"]
    assert bench.holders("p") == {}
    assert bench.app.AsyncResult("heir").state == "REVOKED"


def test_heirs_and_delivered_messages_take_turns_at_processes(make_bench):
    bench = make_bench(size=3)
    for pool in "abc":
        strand(bench, pool)
    busy = [bench.running(f"busy{n}", f"busy{n}") for n in range(3)]
    for number in range(4):
        bench.receive("plain", task_id=f"delivered{number}")

    for pool in "abc":
        bench.gate.offer(pool, bench.release_elsewhere(pool))
    bench.turn()
    assert queue_of(bench) == [
        "heir-a", "delivered0", "heir-b", "delivered1", "heir-c", "delivered2", "delivered3",
    ]  # fmt: skip

    for job in busy:
        job.succeed()
    assert queue_of(bench) == ["delivered1", "heir-c", "delivered2", "delivered3"]
    bench.turn()
    bench.answer()
    assert sorted(bench.pool.ids()[3:]) == ["delivered0", "heir-a", "heir-b"]


def test_an_heir_that_comes_when_another_has_just_begun_lets_the_next_delivered_message_go_first(make_bench):
    bench = make_bench(size=2)
    for pool in "ab":
        strand(bench, pool)
    busy = [bench.running(f"busy{n}", f"busy{n}") for n in range(2)]
    for number in range(2):
        bench.receive("plain", task_id=f"delivered{number}")
    bench.gate.offer("a", bench.release_elsewhere("a"))
    bench.turn()
    assert queue_of(bench) == ["heir-a", "delivered0", "delivered1"]
    busy[0].succeed()

    bench.gate.offer("b", bench.release_elsewhere("b"))
    bench.turn()

    assert queue_of(bench) == ["delivered0", "heir-b", "delivered1"]


def test_no_more_heirs_wait_here_than_there_are_processes(make_bench):
    bench = make_bench(size=2)
    for pool in "abc":
        strand(bench, pool)
    for number in range(2):
        bench.running(f"busy{number}", f"busy{number}")

    for pool in "abc":
        bench.gate.offer(pool, bench.release_elsewhere(pool))
    bench.turn()

    assert queue_of(bench) == ["heir-a", "heir-b"]
    assert bench.queued() == 1  # a hint at the third


def test_what_another_thread_has_found_starts_in_the_loop(bench):
    strand(bench, "a")
    heirs = bench.release_elsewhere("a")
    reaper = threading.Thread(target=bench.gate.offer, args=("a", heirs))
    reaper.start()
    reaper.join()
    assert len(bench.gate.core.handovers) == 0
    assert bench.semaphore.value == 2

    bench.turn(2)

    assert kinds(bench.connection.sent[-1]) == [(StartReserved, "heir-a:0")]
    bench.answer()
    assert bench.pool.ids() == ["heir-a"]
    assert bench.semaphore.value == 1  # it has taken a process


def test_a_worker_that_does_not_consume_the_queue_hints(bench):
    strand(bench, "a")
    bench.consumer.task_consumer.consuming_from = lambda queue: False

    bench.gate.offer("a", bench.release_elsewhere("a"))
    bench.turn()

    assert bench.pool.jobs == []
    assert bench.queued() == 1
