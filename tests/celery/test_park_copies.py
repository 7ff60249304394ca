"""Messages that the broker delivers again, of tasks that are parked, handed over, running, or over."""

import time

import pytest

from tests.support.waiting import wait_until


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_outlives_the_visibility_timeout_runs_once(make_shop, pool):
    shop = make_shop(broker_transport_options={"visibility_timeout": 1}, worker_prefetch_multiplier=4)
    with shop.worker(name="first", pool=pool, concurrency=3) as first:
        late = shop.send("park_late", "visible", "ok", "visible.go")
        shop.runs.wait_begun("visible")
        parked = shop.send("park_late", "visible")
        shop.wait_parked(1)
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since > 1.1)  # then kombu restores as a worker connects
        with shop.worker(name="other", pool=pool, concurrency=2) as other:
            wait_until(lambda: f"park_late[{late.id}] is running; a copy" in first.logs() + other.logs())
        shop.open("visible.go")

        assert late.get() == "ok done"
        assert parked.get() == "ok done"
        assert shop.ids("visible") == [late.id, parked.id]
        shop.wait_quiet()
