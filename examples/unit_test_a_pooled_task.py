"""How to test a pooled task: its body, what it does when its pool is full, and code that sends it.

Run it: `python examples/unit_test_a_pooled_task.py`, or with pytest. What to see:

- no test needs a server: inside `testing.memory()` all slots are in the memory of the process, the app's too;
- to fill a pool, a test holds its slots; it needs no timing and no second thread;
- to simulate a crash, a test moves the clock;
- `apply()` and `task_always_eager` do what a worker does, but nothing can be parked or rescheduled.
"""

import unittest

from celery import Celery

from cachify_tasks import CachifyPoolFullError, Drop, Reschedule, pool, pooled, testing
from cachify_tasks.celery import setup

app = Celery("unit_test_a_pooled_task", broker="redis://localhost:6379/0")  # nothing connects to it here
setup(app)


@app.task
@pooled(key="tenant-{tenant}", max_size=2, on_full=Drop(result="busy"))
def sync_orders(tenant: str) -> str:
    return f"{tenant} is in sync"


@app.task
@pooled(key="bill-{tenant}", max_size=1, on_full=Reschedule())
def bill(tenant: str) -> str:
    return f"{tenant} is billed"


class InMemory(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = self.enterContext(testing.memory())  # a new, empty memory for each test

    def test_the_body_alone(self) -> None:
        assert sync_orders.run.__wrapped__("acme") == "acme is in sync"

    def test_a_call_gives_its_slot_back(self) -> None:
        assert sync_orders("acme") == "acme is in sync"
        assert sync_orders.size("acme") == 0

    def test_a_full_pool_of_one_tenant_leaves_the_others_alone(self) -> None:
        with pool("tenant-acme", max_size=2), pool("tenant-acme", max_size=2):
            assert sync_orders("acme") == "busy"
            assert sync_orders("bolt") == "bolt is in sync"

        assert sync_orders("acme") == "acme is in sync"

    def test_what_only_a_worker_can_reschedule_raises(self) -> None:
        with pool("bill-acme", max_size=1):
            self.assertRaises(CachifyPoolFullError, bill, "acme")  # noqa: PT027  # pytest is not needed here

    def test_a_crash_frees_its_slot_when_the_lease_ends(self) -> None:
        with pool("tenant-acme", max_size=2), pool("tenant-acme", max_size=2):
            self.clock.stall(31)

            assert sync_orders("acme") == "acme is in sync"


class Eagerly(unittest.TestCase):
    def setUp(self) -> None:
        self.enterContext(testing.memory())
        app.conf.task_always_eager = True

    def test_code_that_sends_the_task(self) -> None:
        assert sync_orders.delay("acme").get() == "acme is in sync"

    def test_a_full_pool(self) -> None:
        with pool("tenant-acme", max_size=2), pool("tenant-acme", max_size=2):
            assert sync_orders.apply(("acme",)).get() == "busy"

    def test_nothing_can_be_rescheduled_without_a_worker(self) -> None:
        with pool("bill-acme", max_size=1):
            result = bill.apply(("acme",))

        assert result.state == "FAILURE"
        assert isinstance(result.result, CachifyPoolFullError)


if __name__ == "__main__":
    unittest.main(verbosity=2)
