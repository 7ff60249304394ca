"""A worker that loses its broker forgets what waits for a place in it; heirs do not depend on the broker."""

import redis

from tests.support.waiting import wait_until


def test_heirs_that_wait_for_a_process_run_after_the_broker_was_lost(make_shop, private_server, broker_url):
    broker = private_server().url
    shop = make_shop(
        broker_url=broker, backend_url=broker_url, cachify_start_timeout=60, worker_prefetch_multiplier=8,
    )  # fmt: skip
    with shop.worker(concurrency=2) as worker:
        shop.send("park", "lost", "ok", "lost.go")
        shop.runs.wait_begun("lost")
        heirs = [shop.send("park", "lost") for _ in range(3)]
        shop.wait_parked(3)
        blockers = [shop.send("plain", "blocker", "ok", "blocker.go") for _ in range(2)]
        wait_until(lambda: worker.logs().count("received") >= 6)
        shop.open("lost.go")
        shop.runs.wait_begun("blocker", 2)  # a heir waits for a process now
        shop.wait_parked(2)

        with redis.Redis.from_url(broker) as client:
            client.client_kill_filter(_type="normal", skipme=True)
        wait_until(lambda: worker.logs().count("Connected to redis") >= 2)
        shop.open("blocker.go")

        assert [one.get() for one in heirs] == ["ok done"] * 3
        assert [one.get() for one in blockers] == ["ok done"] * 2
        assert shop.ids("lost")[1:] == [one.id for one in heirs]
        shop.wait_quiet()
