"""An heir whose own worker has no process free starts in one that has."""

import pytest

from tests.support.waiting import wait_until


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_an_heir_goes_where_a_process_is_free(make_shop, pool):
    shop = make_shop(cachify_start_timeout=300, worker_prefetch_multiplier=8)
    with shop.worker(name="busy", pool=pool, concurrency=2) as busy:
        shop.send("park", "a", "ok", "a.go")
        shop.runs.wait_begun("a")
        heir = shop.send("park", "a", "ok")
        shop.wait_parked(1)
        for key in ("b", "c"):  # the second one waits for a process of this worker
            shop.send("park", key, "ok", "go")
        shop.runs.wait_begun("b")
        wait_until(lambda: busy.logs().count("received") == 4)

        with shop.worker(name="idle", pool=pool, concurrency=2):
            shop.open("a.go")

            assert heir.get() == "ok done"
            shop.open("go")
            shop.wait_quiet()

    assert len(shop.ids("a")) == 2
    assert sorted(shop.ids("b") + shop.ids("c")) == sorted({*shop.ids("b"), *shop.ids("c")})
