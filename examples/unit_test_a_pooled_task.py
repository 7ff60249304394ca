"""How to test a pooled task: its body, what it does when its pool is full, and code that sends it.

Run it: `python examples/unit_test_a_pooled_task.py`, or give it to pytest. What to see:

- most tests need no server: `init_cachify()` keeps the slots in the memory of the process;
- to fill a pool, hold its slots; no timing, no second thread;
- `apply()` and `task_always_eager` use the store of the app, as a worker does: there a server is needed.
"""

import unittest

from celery import Celery

from cachify_tasks import CachifyPoolFullError, Drop, Reschedule, init_cachify, pool, pooled
from cachify_tasks._embedded import EmbeddedServer
from cachify_tasks.celery import setup

app = Celery("unit_test_a_pooled_task")
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
        init_cachify()  # a new, empty memory for each test

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


class Eagerly(unittest.TestCase):
    server: EmbeddedServer

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = EmbeddedServer().start()
        app.conf.update(task_always_eager=True, cachify_url=cls.server.url)
        cls.pools = init_cachify(url=cls.server.url, is_global=False)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.stop()

    def test_code_that_sends_the_task(self) -> None:
        assert sync_orders.delay("acme").get() == "acme is in sync"

    def test_a_full_pool(self) -> None:
        with self.pools.pool("tenant-acme", max_size=2), self.pools.pool("tenant-acme", max_size=2):
            assert sync_orders.apply(("acme",)).get() == "busy"

    def test_nothing_can_be_rescheduled_without_a_worker(self) -> None:
        with self.pools.pool("bill-acme", max_size=1):
            result = bill.apply(("acme",))

        assert result.state == "FAILURE"
        assert isinstance(result.result, CachifyPoolFullError)


if __name__ == "__main__":
    unittest.main(verbosity=2)
