"""A prefork worker's gate at hard time limits, and at its shutdown."""

from typing import Any

from celery.worker.state import revoked

from cachify_tasks._core.commands import Release
from tests.celery.fake_worker import plain
from tests.celery.prefork_bench import kinds, strand

REVOKED: Any = revoked

# Time limits


def test_after_a_hard_time_limit_the_slot_is_free_when_the_process_is_dead(bench, process):
    bench.receive("park", "p", task_id="t")
    bench.turn()
    bench.answer()
    (job,) = bench.pool.jobs
    job.accept(process.pid)

    job.hit_hard_time_limit()
    bench.clock.advance(0.1)
    bench.turn(2)
    assert not bench.connection.batches
    assert bench.holders("p") == {"t:0": False}

    process.kill()
    process.wait()
    bench.clock.advance(0.1)
    bench.turn(2)
    bench.answer()
    assert bench.holders("p") == {}


def test_after_a_hard_time_limit_of_a_process_that_is_dead_the_slot_is_free_at_once(bench, process):
    bench.receive("park", "p", task_id="t")
    bench.turn()
    bench.answer()
    (job,) = bench.pool.jobs
    job.accept(process.pid)
    process.kill()
    process.wait()

    job.hit_hard_time_limit()
    bench.turn()
    bench.answer()

    assert bench.holders("p") == {}


# Shutdown


def test_a_shutdown_sends_what_there_is_and_waits_for_the_answers(bench):
    first = bench.running("first", "p")
    bench.shut_down()

    first.succeed()

    assert kinds(bench.connection.sent[-1]) == [(Release, "first:0")]
    assert bench.holders("p") == {}


def test_a_shutdown_asks_for_no_message_any_more(bench):
    bench.receive("park", "p", task_id="t")
    bench.shut_down()

    bench.gate.drain()

    assert bench.connection.sent == []
    assert bench.channel.acknowledged == []


def test_a_slot_that_is_granted_during_the_shutdown_is_freed(bench):
    bench.receive("park", "p", task_id="t")
    bench.turn()
    bench.shut_down()

    bench.gate.drain()

    assert bench.holders("p") == {}
    assert bench.pool.jobs == []
    assert bench.channel.acknowledged == []


def test_heirs_that_wait_for_a_process_are_given_back_at_the_shutdown(make_bench):
    bench = make_bench(size=1)
    strand(bench, "a")
    busy = bench.running("busy", "busy")
    bench.gate.offer("a", bench.release_elsewhere("a"))
    bench.turn()
    assert bench.holders("a") == {"heir-a:0": True}
    bench.shut_down()

    bench.gate.drain()
    bench.gate.pass_on()

    assert bench.holders("a") == {}
    assert bench.parked("a") == 1
    busy.succeed()
    assert bench.holders("busy") == {}


def test_a_run_that_ends_in_a_shutdown_reserves_for_nobody(bench):
    first = bench.running("first", "p")
    bench.park("parked", "p")
    bench.shut_down()

    first.succeed()

    assert bench.holders("p") == {}
    assert bench.parked("p") == 1


def test_a_worker_that_has_shut_down_frees_what_never_began_and_keeps_what_still_runs(make_bench, process):
    bench = make_bench(size=3)
    for name in ("began", "never", "late"):
        bench.receive("late" if name == "late" else "park", name, task_id=name)
    bench.turn()
    bench.answer()
    bench.pool.jobs[0].accept(process.pid)
    bench.shut_down()

    bench.gate.on_shutdown()

    assert [bench.holders(pool) for pool in ("began", "never", "late")] == [{"began:0": False}, {}, {}]
    releases = {plain(c.holder): c.requeue for c in bench.connection.sent[-1] if isinstance(c, Release)}
    assert releases.get("late:0", True)


def test_a_worker_that_has_shut_down_frees_the_slot_of_a_process_that_was_being_killed(bench, process):
    bench.receive("park", "p", task_id="t")
    bench.turn()
    bench.answer()
    bench.pool.jobs[0].accept(process.pid)
    bench.pool.jobs[0].hit_hard_time_limit()
    assert bench.holders("p") == {"t:0": False}
    bench.consumer.blueprint.state = None  # the loop has ended meanwhile

    bench.gate.on_shutdown()

    assert bench.holders("p") == {}


def test_a_store_that_comes_back_during_the_shutdown_hears_of_the_ends(bench):
    first = bench.running("first", "p")
    bench.shut_down()
    bench.store.down = True
    first.succeed()
    assert bench.holders("p") == {"first:0": False}
    bench.store.down = False

    bench.gate.on_shutdown()

    assert bench.holders("p") == {}


def test_the_reaper_sends_reports_only_while_the_loop_stands_still(bench):
    first = bench.running("first", "p")
    bench.store.down = True
    first.succeed()
    bench.turn()
    bench.connection.answer()
    bench.store.down = False

    bench.gate.resend()
    assert bench.holders("p") == {"first:0": False}
    bench.shut_down()
    bench.gate.resend()

    assert bench.holders("p") == {}


def test_a_worker_without_its_broker_is_no_place_for_the_reapers_finds(bench):
    assert bench.gate.has_capacity

    bench.consumer.connection = None

    assert not bench.gate.has_capacity


def test_a_worker_whose_processes_are_all_busy_is_no_place_for_the_reapers_finds(bench):
    jobs = [bench.running(f"t{n}", f"p{n}") for n in range(2)]
    assert not bench.gate.has_capacity

    jobs[0].succeed()

    assert bench.gate.has_capacity
