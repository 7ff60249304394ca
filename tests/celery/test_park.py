"""Parked tasks: in order, each once, on every pool, with every way to end."""

import pytest

from tests.support.waiting import wait_until

POOLS = ["prefork", "threads", "solo", "gevent"]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("task", ["park", "park_late"])
def test_parked_tasks_run_once_each_in_the_order_they_were_sent(make_shop, pool, task):
    shop = make_shop(worker_prefetch_multiplier=1)
    with shop.worker(pool=pool, concurrency=3):
        sent = [shop.send(task, "a", "ok") for _ in range(40)]

        assert [one.get() for one in sent] == ["ok done"] * 40
        begun = shop.runs.begun("a")
        assert sorted(run["id"] for run in begun) == sorted(one.id for one in sent)
        by_token = sorted(begun, key=lambda run: run["token"])
        assert [run["id"] for run in by_token] == [run["id"] for run in begun]
        assert shop.runs.peak("a") == 1
        wait_until(lambda: shop.size(task, "a") == 0)
