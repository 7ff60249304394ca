"""The slots that a worker's tasks hold, and the ways in which each is freed."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from cachify_tasks._core.commands import Acquire
from cachify_tasks._runtime.lease_renewer import LeaseRenewer, SlotSource, lease_renewer
from cachify_tasks._runtime.slot import Slot
from cachify_tasks._worker.attempt import Attempt
from cachify_tasks._worker.held_slots import GRACE, HeldSlots, is_alive
from tests.support.waiting import wait_until
from tests.worker.fakes import Bench, FakeDelivery


class Held:
    """`HeldSlots`, and what it has released."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.released: list[tuple[str, bool]] = []
        self.deaths = 0
        self.slots = HeldSlots(bench.runtime, self._release, clock=bench.clock)

    def _release(self, slot: Slot, requeue: bool, died: bool) -> None:
        self.released.append((slot.holder, requeue))
        self.deaths += died

    def hold(self, task_id: str) -> FakeDelivery:
        """A delivery that holds a slot."""
        delivery = FakeDelivery(Attempt(task_id))
        delivery.state.command = Acquire(
            pool="p", holder=delivery.attempt.holder, request_id="r", limit=1, lease_ms=30_000, start_ms=10_000
        )
        self.slots.hold(delivery, delivery.state.command, 7)
        return delivery


@pytest.fixture
def held(bench: Bench) -> Held:
    return Held(bench)


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that runs until it is killed."""
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    with subprocess.Popen(command) as process:
        yield process
        process.kill()


def is_renewed(slot: Slot) -> bool:
    return slot in lease_renewer._held()


def test_a_delivery_that_holds_a_slot_has_its_lease_renewed(held):
    delivery = held.hold("t")

    slot = delivery.state.slot
    assert slot is not None
    assert (slot.key, slot.holder, slot.token, slot.request_id) == ("p", "t:0", 7, "r")
    assert held.slots.holding() == [delivery]
    assert is_renewed(slot)
    assert held.released == []


@pytest.mark.parametrize("requeue", [True, False])
def test_a_slot_is_freed_once_however_often_its_end_is_reported(held, requeue):
    delivery = held.hold("t")
    slot = delivery.state.slot

    held.slots.free(delivery, requeue=requeue)
    held.slots.free(delivery, requeue=not requeue)

    assert held.released == [("t:0", requeue)]
    assert held.slots.holding() == []
    assert delivery.state.slot is None
    assert not is_renewed(slot)


def test_the_next_slot_tries_again_where_the_renewer_could_not_start(bench):
    tries: list[int] = []

    class Renewer(LeaseRenewer):
        def add_source(self, source: SlotSource, lease_ms: int) -> None:
            tries.append(lease_ms)
            if len(tries) == 1:
                raise RuntimeError("can't start new thread")

    slots = HeldSlots(bench.runtime, lambda slot, requeue, died: None, clock=bench.clock, renewer=Renewer())
    command = Acquire(pool="p", holder="t:0", request_id="r", limit=1, lease_ms=30_000, start_ms=10_000)

    with pytest.raises(RuntimeError):
        slots.hold(FakeDelivery(Attempt("t")), command, 7)
    for _ in range(2):
        slots.hold(FakeDelivery(Attempt("t")), command, 7)

    assert tries == [30_000] * 2


def test_a_delivery_without_a_slot_frees_nothing(held):
    held.slots.free(FakeDelivery(Attempt("t")), requeue=False)

    assert held.released == []


@pytest.mark.parametrize("requeue", [True, False])
def test_the_slot_of_a_process_that_is_being_killed_is_freed_when_the_process_is_dead(held, process, requeue):
    delivery = held.hold("t")
    slot = delivery.state.slot
    held.slots.free_when_dead(delivery, process.pid, requeue=requeue)

    assert held.slots.free_dead()
    assert held.released == []
    assert is_renewed(slot)  # the run may still go on
    assert delivery.state.slot is None

    process.kill()
    process.wait()
    assert not held.slots.free_dead()
    assert held.released == [("t:0", requeue)]
    assert not is_renewed(slot)
    assert not held.slots.free_dead()
    assert len(held.released) == 1


def test_a_process_that_does_not_die_keeps_its_slot_for_two_seconds(held, process):
    held.slots.free_when_dead(held.hold("t"), process.pid, requeue=False)

    held.bench.clock.advance(GRACE - 0.1)
    assert held.slots.free_dead()
    held.bench.clock.advance(0.1)

    assert not held.slots.free_dead()
    assert held.released == [("t:0", False)]


def test_each_process_that_is_being_killed_is_waited_for_alone(held, process):
    held.slots.free_when_dead(held.hold("slow"), process.pid, requeue=False)
    held.slots.free_when_dead(held.hold("dead"), 0, requeue=True)

    assert held.slots.free_dead()
    assert held.released == [("dead:0", True)]
    process.kill()
    process.wait()
    assert not held.slots.free_dead()
    assert held.released == [("dead:0", True), ("slow:0", False)]


def test_a_worker_that_ends_does_not_wait_for_dying_processes(held, process):
    held.slots.free_when_dead(held.hold("t"), process.pid, requeue=False)

    assert not held.slots.free_dead(wait=False)
    assert held.released == [("t:0", False)]


def test_a_slot_that_is_being_freed_is_not_freed_by_the_report_of_the_end_too(held, process):
    delivery = held.hold("t")
    held.slots.free_when_dead(delivery, process.pid, requeue=False)

    held.slots.free(delivery, requeue=True)
    held.slots.free_when_dead(delivery, process.pid, requeue=True)
    held.slots.free_dead(wait=False)

    assert held.released == [("t:0", False)]


def test_an_abandoned_slot_is_neither_renewed_nor_freed(held):
    delivery = held.hold("t")
    slot = delivery.state.slot

    assert held.slots.abandon(delivery) is slot

    assert held.slots.holding() == []
    assert not is_renewed(slot)
    held.slots.free(delivery, requeue=False)
    assert held.slots.abandon(delivery) is None
    assert held.released == []


def test_a_slot_is_found_by_the_command_that_was_granted_it(held):
    other, late = held.hold("other"), held.hold("late")

    assert held.slots.granted_to(late.state.command) is late.state.slot
    assert held.slots.granted_to(other.state.command) is other.state.slot


def test_a_lease_that_is_known_to_be_lost_is_not_renewed(held):
    other, lost = held.hold("other"), held.hold("lost")

    lost.state.slot.mark_lost()

    assert not is_renewed(lost.state.slot)
    assert is_renewed(other.state.slot)


def test_a_command_has_no_slot_any_more_once_its_run_has_ended(held):
    delivery = held.hold("t")
    held.slots.free(delivery, requeue=False)

    assert held.slots.granted_to(delivery.state.command) is None


def test_equal_deliveries_hold_slots_of_their_own(held):
    one, other = held.hold("t"), held.hold("t")

    held.slots.free(one, requeue=False)

    assert held.slots.holding() == [other]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process that nobody has waited for counts as alive")
def test_a_process_that_has_ended_is_not_alive_though_nobody_has_waited_for_it(process):
    assert is_alive(process.pid)

    process.kill()

    wait_until(lambda: not is_alive(process.pid))
    assert process.returncode is None


def test_no_process_is_not_alive():
    assert not is_alive(0)
    assert not is_alive(None)
