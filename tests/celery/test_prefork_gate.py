"""The gate of prefork workers, one iteration of its event loop at a time."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.concurrency.prefork import TaskPool
from celery.worker.state import revoked

from cachify_tasks import Drop, Park, Reschedule, current_slot, pooled
from cachify_tasks._core.commands import Acquire, Release, Renew, StartReserved
from cachify_tasks._worker.verdicts import Start
from cachify_tasks._worker.worker import Worker
from cachify_tasks.celery.prefork_gate import CHECK_EVERY, SOON, PreforkGate
from tests.celery.fake_worker import LEASE_S, HandConnection, HandWorker

REVOKED: Any = revoked


class Bench(HandWorker):
    """A prefork worker of one app, its gate, and the gate's connection."""

    def __init__(self, *, size: int = 2, **conf: Any) -> None:
        super().__init__(TaskPool, size=size, **conf)
        tasks: dict[str, dict[str, Any]] = {
            "park": {}, "late": {"acks_late": True}, "drop": {"on_full": Drop()},
            "again": {"on_full": Reschedule(delay=20)}, "brief": {"on_full": Park(max_age=1, then=Drop())},
        }  # fmt: skip
        for name, options in tasks.items():
            self._add(name, options)

        @self.app.task(name="plain", shared=False)
        def plain() -> None: ...

        self.gate = PreforkGate(self.runtime, self)  # type: ignore[arg-type]
        self.gate.core = Worker(self.runtime, self.gate, clock=self.clock)
        self.connection = self.gate._connection = HandConnection(self.store)
        self.gated_by(self.gate)
        self.gate.register(self.hub)
        self.turn()

    def _add(self, name: str, options: dict[str, Any]) -> None:
        late = {"acks_late": True} if options.pop("acks_late", False) else {}

        @self.app.task(name=name, shared=False, **late)
        @pooled(key="{key}", max_size=1, **options)
        def task(key: str) -> str:
            return current_slot().key

    def turn(self, count: int = 1) -> None:
        assert self.hub is not None
        for _ in range(count):
            self.hub.turn()

    def answer(self) -> None:
        """The store answers what was sent, and what is sent because of that."""
        while self.connection.batches:
            self.connection.answer()
            self.turn(2)

    def running(self, task_id: str, pool: str, task: str = "park") -> Any:
        """A task that runs in this pool's only slot; its job."""
        self.receive(task, pool, task_id=task_id)
        self.turn()
        self.answer()
        (job,) = [job for job in self.pool.jobs if job.task_id == task_id]
        job.accept()
        return job

    def park(self, task_id: str, pool: str, task: str = "park") -> Any:
        """A task that is parked behind another."""
        delivery = self.receive(task, pool, task_id=task_id)
        self.turn()
        self.answer()
        assert task_id in self.channel.acknowledged
        return delivery


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield make
    for bench in made:
        bench.close()
    REVOKED.clear()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


def kinds(commands: list[Any]) -> list[tuple[type[Any], str]]:
    """Of each command, in order: what it is, and whose."""
    return [(type(command), command.holder) for command in commands]


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


def queue_of(bench: Bench) -> list[str]:
    """The tasks that wait for a process, in their order."""
    return [args[0].id for _, args, _ in bench.semaphore._waiting]


def strand(bench: Bench, pool: str) -> None:
    """A task is parked here behind one of another worker."""
    bench.acquire_elsewhere(pool)
    bench.park(f"heir-{pool}", pool)


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

    bench.store.down = False
    bench.gate.resume()
    bench.hub.overslept = False
    bench.clock.advance(1)
    bench.turn()  # a timer of this iteration asks again
    assert not bench.hub.overslept
    bench.turn()
    bench.answer()
    assert bench.pool.ids() == ["t", "meanwhile"]
    (first, again) = [c for commands in bench.connection.sent for c in commands if c.holder == "t:0"]
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


def reconnect(bench: Bench) -> None:
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


# Time limits


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


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
    releases = {c.holder: c.requeue for c in bench.connection.sent[-1] if isinstance(c, Release)}
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
