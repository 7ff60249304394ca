"""Long queues: no recursion, no starving."""

import pytest

from tests.support.waiting import PATIENCE_S


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_a_thousand_parked_tasks_run_one_after_the_other(make_shop, pool):
    count = 1500 if pool == "prefork" else 500
    shop = make_shop()
    with shop.worker(pool=pool, args=[f"--prefetch-multiplier={count + 10}"]) as worker:
        shop.send("park", "many", "ok", "many.go")
        shop.runs.wait_begun("many")
        with shop.app.producer_pool.acquire(block=True) as producer:
            sent = [shop.send("park_first", "many", producer=producer) for _ in range(count)]
        if pool != "solo":
            shop.wait_parked(count)
        shop.open("many.go")

        assert shop.app.control.ping(timeout=PATIENCE_S, limit=1)
        assert [one.get() for one in sent] == [0] * count
        assert shop.ids("many")[1:] == [one.id for one in sent]
        assert "Traceback" not in worker.logs()
        shop.wait_quiet()
