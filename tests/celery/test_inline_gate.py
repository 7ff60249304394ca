"""The gates that ask where the task runs, or by the thread that hands it over; the pool's jobs are run by hand."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.concurrency.prefork import TaskPool as Prefork
from celery.concurrency.solo import TaskPool as Solo
from celery.worker import state
from celery.worker.state import revoked

from cachify_tasks._core.commands import Release, Renew
from cachify_tasks._worker.attempt import Attempt, Header, Hint
from cachify_tasks.celery import inline_gate
from tests.celery.fake_worker import plain
from tests.celery.inline_bench import InlineBench, strand
from tests.support.waiting import wait_until

REVOKED: Any = revoked
STATE: Any = state


@pytest.fixture
def make_bench() -> Iterator[Callable[..., InlineBench]]:
    made: list[InlineBench] = []

    def make(*args: Any, **options: Any) -> InlineBench:
        made.append(InlineBench(*args, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.close()
    REVOKED.clear()
    STATE.should_stop = STATE.should_terminate = None


@pytest.fixture
def bench(make_bench: Callable[..., InlineBench]) -> InlineBench:
    return make_bench()


# Threads


def test_a_message_that_waits_for_a_thread_takes_no_slot(bench):
    bench.receive("park", "p", task_id="t")

    assert len(bench.pool.jobs) == 1
    assert bench.store.sent == []


def test_a_task_asks_when_its_turn_has_come_and_runs_in_its_slot(bench):
    bench.receive("park", "p", task_id="t")

    bench.pool.jobs[0].run()

    assert bench.runs == ["t:0"]
    assert bench.held == {"t:0": False}
    assert bench.holders("p") == {}
    assert bench.app.AsyncResult("t").result == "p"
    assert bench.channel.acknowledged == ["t"]


@pytest.mark.parametrize("part", ["Request.on_accepted", "trace_task_ret"])
def test_the_slot_is_free_where_celery_itself_fails(bench, monkeypatch, part):
    def fail(*_, **__):
        raise RuntimeError("Celery failed")

    monkeypatch.setattr(f"celery.worker.request.{part}", fail)
    bench.receive("park", "p", task_id="t")

    with pytest.raises(RuntimeError, match="Celery failed"):
        bench.pool.jobs[0].run()

    assert bench.holders("p") == {}


@pytest.mark.parametrize("task", ["park", "drop"])
def test_a_refused_task_does_not_run_and_is_not_reported_as_run(bench, task):
    bench.acquire_elsewhere("p")
    delivery = bench.receive(task, "p", task_id="t")

    bench.pool.jobs[0].run()

    assert bench.runs == []
    assert bench.channel.acknowledged == ["t"]
    assert delivery.request.worker_pid is None  # never accepted
    assert bench.app.AsyncResult("t").state == ("REVOKED" if task == "drop" else "PENDING")
    assert "t" not in STATE.successful_requests


def test_a_task_that_was_revoked_while_it_waited_for_a_thread_takes_no_slot_for_long(bench):
    bench.receive("park", "p", task_id="t")
    REVOKED.add("t")
    bench.receive("park", "p", task_id="t2")

    assert len(bench.pool.jobs) == 2
    bench.pool.jobs[1].run()
    assert bench.runs == ["t2:0"]


def test_the_next_task_is_started_by_the_loop_and_not_by_the_thread_that_has_just_ended(bench):
    strand(bench, "p")
    bench.gate.offer("p", bench.release_elsewhere("p"))
    assert bench.pool.jobs == []

    bench.turn()

    assert bench.pool.ids() == ["heir-p"]
    bench.pool.jobs[0].run()
    assert bench.runs == ["heir-p:0"]
    assert bench.holders("p") == {}
    assert bench.parked("p") == 0


def test_one_iteration_starts_only_what_was_there_when_it_began(bench):
    calls: list[int] = []

    def again():
        calls.append(len(calls))
        bench.gate.call_in_worker(again)

    bench.gate.call_in_worker(again)

    bench.turn()
    assert calls == [0]
    bench.turn()
    assert calls == [0, 1]


def test_without_a_loop_the_next_task_is_started_by_a_thread_of_its_own(make_bench):
    bench = make_bench(loop=False)
    strand(bench, "p")

    bench.gate.offer("p", bench.release_elsewhere("p"))

    wait_until(lambda: bench.pool.ids() == ["heir-p"])


def test_an_heir_that_waits_for_a_thread_is_not_started_twice_after_a_reconnect(bench):
    strand(bench, "p")
    bench.gate.offer("p", bench.release_elsewhere("p"))
    bench.turn()

    bench.gate.register(bench.hub)
    bench.turn()

    assert bench.pool.ids() == ["heir-p"]


def test_a_hint_is_acknowledged_and_the_task_that_it_starts_is_acknowledged_in_the_store(bench):
    strand(bench, "p")
    (heir,) = bench.release_elsewhere("p")
    hint = Header(sending=heir.holder.partition("#")[2], hint=Hint(pool="p")).encode(Attempt("heir-p"))
    bench.receive("park", "p", task_id="heir-p", cachify_attempt=hint)

    bench.pool.jobs[0].run()

    assert bench.runs == [plain(heir.holder)]
    assert bench.channel.acknowledged == ["heir-p", "heir-p"]  # when it was parked, and the hint
    assert [command.started for command in bench.store.sent if isinstance(command, Renew)] == [True]


def test_solo_without_a_loop_hints_before_its_thread_asks_the_broker_for_more(make_bench, monkeypatch):
    bench = make_bench(Solo, loop=False)
    strand(bench, "p")
    monkeypatch.setattr("cachify_tasks.celery.inline_gate.threading.Thread", None)  # no other thread may do it

    bench.gate.offer("p", bench.release_elsewhere("p"))

    assert bench.queued() == 1
    assert bench.pool.jobs == []


def test_a_worker_that_was_told_to_stop_starts_no_heirs(bench):
    assert bench.gate.accepting

    STATE.should_stop = 0

    assert not bench.gate.accepting
    assert not bench.gate.has_capacity


# The store is out of reach


def test_without_the_store_a_message_goes_back_to_the_broker_with_a_delay(bench):
    bench.store.down = True
    bench.receive("park", "p", task_id="t")

    bench.pool.jobs[0].run()

    assert bench.runs == []
    assert bench.queued() == 1
    assert bench.channel.acknowledged == ["t"]
    assert bench.app.AsyncResult("t").state == "PENDING"


def test_a_message_that_went_back_is_taken_for_a_copy_when_it_comes_again(bench):
    bench.store.down = True
    bench.receive("park", "p", task_id="t")
    bench.pool.jobs[0].run()
    bench.store.down = False
    bench.gate.resume()
    with bench.app.connection_for_write() as connection:
        queue = connection.SimpleQueue("celery")
        message = queue.get()
        message.ack()
        queue.close()

    again = bench.receive("park", "p", task_id="t", cachify_attempt=message.headers["cachify_attempt"])

    assert again.is_copy
    assert plain(again.attempt.holder) == "t:0"
    bench.pool.jobs[0].run()
    assert not bench.asked()[-1].first_delivery
    assert bench.runs == ["t:0"]


def test_without_the_store_a_parked_task_is_left_to_the_store(bench):
    strand(bench, "p")
    bench.gate.offer("p", bench.release_elsewhere("p"))
    bench.turn()
    bench.store.down = True

    bench.pool.jobs[0].run()

    assert bench.queued() == 0
    assert bench.runs == []
    assert bench.holders("p") == {"heir-p:0": True}  # offered again when its reservation has ended


def test_without_the_store_and_the_broker_the_thread_waits_until_one_is_back(bench, monkeypatch):
    bench.store.down = True
    refused = []

    def publish(*args, **options):
        refused.append(args)
        if len(refused) < 3:
            raise ConnectionError("no broker")

    slept: list[float] = []
    monkeypatch.setattr(inline_gate, "send_later", publish)
    monkeypatch.setattr("cachify_tasks.celery.inline_gate.time.sleep", slept.append)
    bench.receive("park", "p", task_id="t")

    bench.pool.jobs[0].run()

    assert slept == [0.5, 1.0]
    assert [args[1] for args in refused] == [0.5, 1.0, 2.0]


def test_a_worker_that_stops_leaves_such_a_message_unacknowledged(bench, monkeypatch):
    bench.store.down = True
    bench.app.conf.broker_url = bench.app.conf.broker_write_url = "amqp://127.0.0.1:1//"
    bench.app.conf.broker_transport_options = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
    STATE.should_stop = 0
    bench.receive("park", "p", task_id="t")

    bench.pool.jobs[0].run()

    assert bench.channel.acknowledged == []
    assert bench.runs == []


def test_the_end_of_a_run_that_the_store_did_not_hear_of_is_sent_again_by_the_reaper(bench):
    bench.receive("park", "p", task_id="t")
    bench.store.fail_on = Release
    bench.pool.jobs[0].run()
    assert bench.runs == ["t:0"]
    assert bench.holders("p") == {"t:0": False}
    bench.store.fail_on = None

    bench.gate.resend()

    assert bench.holders("p") == {}


# Shutdown


def test_heirs_that_wait_for_a_thread_are_given_back_at_the_shutdown(bench):
    strand(bench, "p")
    bench.gate.offer("p", bench.release_elsewhere("p"))
    bench.turn()
    bench.shut_down()

    bench.gate.drain()
    bench.gate.pass_on()

    assert bench.holders("p") == {}
    assert bench.parked("p") == 1
    bench.pool.jobs[0].run()  # a thread was about to begin it
    assert bench.runs == []
    assert bench.parked("p") == 1


def test_a_run_that_ends_in_a_shutdown_reserves_for_nobody(bench):
    bench.receive("park", "p", task_id="first")
    bench.receive("park", "p", task_id="parked")
    first, parked = bench.pool.jobs

    def while_it_runs() -> None:
        bench.meanwhile = None
        parked.run()
        bench.shut_down()

    bench.meanwhile = while_it_runs
    first.run()

    assert bench.runs == ["first:0"]
    assert bench.holders("p") == {}
    assert bench.parked("p") == 1


# Processes without an event loop


@pytest.fixture
def blocking(make_bench: Callable[..., InlineBench]) -> InlineBench:
    return make_bench(Prefork, loop=False)


def test_the_worker_asks_before_the_request_goes_to_the_pool(blocking):
    blocking.receive("park", "p", task_id="t")

    assert blocking.holders("p") == {"t:0": False}
    assert blocking.pool.ids() == ["t"]
    blocking.pool.jobs[0].accept()
    blocking.pool.jobs[0].succeed()
    assert blocking.holders("p") == {}


def test_a_refused_request_does_not_go_to_the_pool(blocking):
    blocking.acquire_elsewhere("p")

    blocking.receive("park", "p", task_id="t")

    assert blocking.pool.jobs == []
    assert blocking.parked("p") == 1


def test_a_revoked_request_is_not_asked_for(blocking):
    REVOKED.add("t")

    blocking.receive("park", "p", task_id="t")

    assert blocking.store.sent == []
    assert blocking.pool.jobs == []


def test_parked_tasks_start_by_hints(blocking):
    blocking.acquire_elsewhere("p")
    blocking.receive("park", "p", task_id="t")

    blocking.gate.offer("p", blocking.release_elsewhere("p"))

    wait_until(lambda: blocking.queued() == 1)
    assert blocking.pool.jobs == []


def test_after_a_hard_time_limit_the_slot_is_free_when_the_process_is_dead(blocking, process):
    blocking.receive("park", "p", task_id="t")
    (job,) = blocking.pool.jobs
    job.accept(process.pid)

    job.hit_hard_time_limit()
    assert blocking.holders("p") == {"t:0": False}
    process.kill()
    process.wait()

    wait_until(lambda: blocking.holders("p") == {})


def test_a_worker_that_has_shut_down_keeps_the_slot_of_a_process_that_still_runs(blocking, process):
    for task_id in ("runs", "never"):
        blocking.receive("park", task_id, task_id=task_id)
    blocking.pool.jobs[0].accept(process.pid)
    blocking.shut_down()

    blocking.gate.on_shutdown()

    assert blocking.holders("runs") == {"runs:0": False}
    assert blocking.holders("never") == {}
