"""Parked tasks under the controls of a running worker."""

import time

import pytest

from tests.support.waiting import PATIENCE_S, wait_until


def hold(shop, key, **options):
    sent = shop.send("park", key, "ok", f"{key}.go", **options)
    shop.runs.wait_begun(key)
    return sent


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_heirs_keep_to_the_rate_limit(make_shop, pool):
    shop = make_shop(worker_prefetch_multiplier=16, cachify_start_timeout=1)
    with shop.worker(pool=pool, concurrency=3):
        hold(shop, "rate")
        sent = [shop.send("park_limited", "rate") for _ in range(6)]
        shop.wait_parked(6)
        shop.obeyed("rate_limit", "park_limited", "2/s")
        shop.open("rate.go")

        assert [one.get() for one in sent] == ["ok done"] * 6
        begun = [line["t"] for line in shop.runs.begun("rate")][1:]
        assert begun[-1] - begun[0] > 5 / 2 - 0.3
        assert len(begun) == 6
        shop.wait_quiet()


def test_a_heir_waits_while_its_queue_is_not_consumed(make_shop):
    shop = make_shop(worker_prefetch_multiplier=8, cachify_start_timeout=1)
    with shop.worker(args=["-Q", "shop,other"]):
        hold(shop, "cancelled", queue="other")
        sent = [shop.send("park", "cancelled") for _ in range(3)]
        shop.wait_parked(3)
        shop.obeyed("cancel_consumer", "shop")
        shop.open("cancelled.go")
        wait_until(lambda: shop.app.backend.client.llen("shop") > 0)
        elsewhere = shop.send("park", "cancelled", queue="other")
        assert elsewhere.get() == "ok done"
        assert len(shop.ids("cancelled")) == 2

        shop.obeyed("add_consumer", "shop")

        assert [one.get() for one in sent] == ["ok done"] * 3
        shop.wait_quiet()
        assert len(shop.ids("cancelled")) == 5


def test_the_pool_may_grow_shrink_and_scale(make_shop):
    shop = make_shop(worker_prefetch_multiplier=16)
    with shop.worker(concurrency=2):
        hold(shop, "grow")
        sent = [shop.send("park", "grow", "sleep-0.05") for _ in range(60)]
        shop.wait_parked(60)
        shop.obeyed("pool_grow", 2)
        shop.open("grow.go")
        shop.runs.wait_begun("grow", 8)
        shop.obeyed("pool_shrink", 3)
        shop.runs.wait_begun("grow", 16)
        shop.obeyed("pool_grow", 1)

        assert [one.get() for one in sent] == ["sleep-0.05 done"] * 60
        assert shop.runs.peak("grow") == 1
        shop.wait_quiet()

    with shop.worker(name="scaling", args=["--autoscale=4,1"]):
        sent = [shop.send("park", "scale", "sleep-0.02") for _ in range(20)]
        assert [one.get() for one in sent] == ["sleep-0.02 done"] * 20
        assert sorted(shop.ids("scale")) == sorted(one.id for one in sent)
        shop.wait_quiet()


def test_processes_that_end_after_some_tasks_run_heirs_too(make_shop):
    shop = make_shop(worker_prefetch_multiplier=16, worker_max_tasks_per_child=3)
    with shop.worker():
        sent = [shop.send("park", "renewed") for _ in range(7)]

        assert [one.get() for one in sent] == ["ok done"] * 7
        assert sorted(shop.ids("renewed")) == sorted(one.id for one in sent)
        shop.wait_quiet()


def test_a_queue_that_nobody_consumes_does_not_fill_with_calls(make_shop):
    shop = make_shop(cachify_start_timeout=0.1)
    with shop.worker(args=["-Q", "shop,other"]):
        hold(shop, "calls", queue="other")
        sent = shop.send("park", "calls")
        shop.wait_parked(1)
        shop.obeyed("cancel_consumer", "shop")
        shop.open("calls.go")
        client = shop.app.backend.client
        wait_until(lambda: client.llen("shop") >= 3, PATIENCE_S)
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since > 2.5)

        assert client.llen("shop") == 3

        shop.obeyed("add_consumer", "shop")
        assert sent.get() == "ok done"
        assert len(shop.ids("calls")) == 2
        shop.wait_quiet()
