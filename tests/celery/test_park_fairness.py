"""Parked tasks go first, and do not keep others from their places."""

from tests.support.waiting import wait_until
from tests.support.workers import together

KEYS = "abcd"


def test_tasks_of_others_run_between_the_heirs_of_more_pools_than_there_are_places(make_shop):
    shop = make_shop(worker_prefetch_multiplier=8)
    elsewhere = shop.worker(name="else", concurrency=4, args=["-Q", "elsewhere"])
    with together(shop.worker(concurrency=2), elsewhere) as (worker, _):
        for key in KEYS:
            shop.send("park", key, "ok", "all.go", queue="elsewhere")
            shop.runs.wait_begun(key)
        heirs = [shop.send("park", key, "ok", "heirs.go") for key in KEYS]
        heirs += [shop.send("park", key, "sleep-0.05") for _ in range(24) for key in KEYS]
        shop.wait_parked(100)
        shop.open("all.go")
        wait_until(lambda: len(shop.runs.begun()) == 6)  # heirs in both places of the worker
        others = [shop.send("plain", "other", "ok") for _ in range(5)]
        wait_until(lambda: worker.logs().count("Task plain[") == 5)  # received

        shop.open("heirs.go")
        assert [one.get() for one in others] == ["ok done"] * 5

        order = [line["key"] for line in shop.runs.begun()][6:]
        last = max(index for index, key in enumerate(order) if key == "other")
        assert order[:last].count("other") == 4
        assert last <= 13, order[: last + 1]
        assert [one.get() for one in heirs] == ["ok done"] * 4 + ["sleep-0.05 done"] * 96
        shop.wait_quiet()
