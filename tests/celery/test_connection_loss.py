"""What a worker holds for requests that it has lost with its connection to the broker."""

import os
import signal

import pytest
import redis

from cachify_tasks._core.commands import Inspect
from cachify_tasks.celery.app import runtime_of
from tests.celery.conftest import Shop
from tests.support.processes import running_descendants
from tests.support.waiting import wait_until
from tests.support.workers import together


def cut_connections(url: str) -> None:
    """Close every connection to this server but our own."""
    with redis.Redis.from_url(url) as client:
        client.client_kill_filter(_type="normal", skipme=True)


def running(shop: Shop) -> list[str]:
    """Who has the slot, once its run has been asked for."""
    view = runtime_of(shop.app).store.execute(Inspect("park-a"))
    return [holder.holder for holder in view.holders if not holder.reserved]


@pytest.mark.parametrize("heir", [False, True], ids=["of a message", "of a heir"])
def test_the_slot_of_a_job_that_was_thrown_away_with_the_connection_is_free_again(
    make_shop, private_server, broker_url, heir
):
    broker = private_server().url
    shop = make_shop(broker_url=broker, backend_url=broker_url, cachify_lease_ttl=3, cachify_start_timeout=1)
    with together(shop.worker(concurrency=1), shop.worker(name="other", args=["-Q", "other"])) as (worker, _):
        (child,) = running_descendants(worker.pid)
        if heir:
            shop.send("park_late", "a", "ok", "a.go", queue="other")
            shop.runs.wait_begun("a")
            job = shop.send("park_late", "a", "sleep-0.01")
            wait_until(lambda: "is parked" in worker.logs())
            os.kill(child, signal.SIGSTOP)
            shop.open("a.go")
        else:
            os.kill(child, signal.SIGSTOP)
            job = shop.send("park_late", "a", "sleep-0.01")
        wait_until(lambda: [holder.partition(":")[0] for holder in running(shop)] == [job.id])

        cut_connections(broker)
        wait_until(lambda: worker.logs().count("Connected to") >= 2)
        os.kill(child, signal.SIGCONT)

        assert job.get() == "sleep-0.01 done"
        assert shop.send("park_late", "a").get() == "ok done"
        wait_until(lambda: shop.size("park_late", "a") == 0)
        assert shop.runs.peak("a") == 1
