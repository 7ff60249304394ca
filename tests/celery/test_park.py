"""Parked tasks: in order, each once, on every pool, with every way to end."""

import pytest

from tests.support.waiting import wait_until

POOLS = ["prefork", "threads", "solo", "gevent"]


@pytest.fixture(scope="module", params=POOLS)
def shop(make_shared_shop, request):
    shop = make_shared_shop(worker_prefetch_multiplier=1)
    with shop.worker(pool=request.param, concurrency=3):
        yield shop


@pytest.mark.parametrize("task", ["park", "park_late"])
def test_parked_tasks_run_once_each_in_the_order_they_were_sent(shop, task):
    key = f"of-{task}"
    sent = [shop.send(task, key, "ok") for _ in range(40)]

    assert [one.get() for one in sent] == ["ok done"] * 40
    begun = shop.runs.begun(key)
    assert sorted(run["id"] for run in begun) == sorted(one.id for one in sent)
    by_token = sorted(begun, key=lambda run: run["token"])
    assert [run["id"] for run in by_token] == [run["id"] for run in begun]
    assert shop.runs.peak(key) == 1
    wait_until(lambda: shop.size(task, key) == 0)
