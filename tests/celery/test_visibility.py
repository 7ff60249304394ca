"""Redis brokers deliver a message again that was not acknowledged for the visibility timeout."""

import redis

from tests.support.waiting import wait_until


def test_a_message_that_waited_in_its_worker_until_its_copy_had_ended_elsewhere_does_not_run(make_shop, broker_url):
    transport = {"visibility_timeout": 2, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    shop = make_shop(broker_transport_options=transport)
    with shop.worker(concurrency=1, args=["--prefetch-multiplier=4"]) as worker:
        holder = shop.send("plain", "busy", "ok", "busy.go")
        shop.runs.wait_begun("busy")
        waiting = shop.send("park_late", "a")
        wait_until(lambda: f"park_late[{waiting.id}] received" in worker.logs())
        with shop.worker(name="other"):
            assert waiting.get() == "ok done"

            shop.open("busy.go")

            assert holder.get() == "ok done"
            wait_until(lambda: "has ended already" in worker.logs())
            with redis.Redis.from_url(broker_url) as client:
                wait_until(lambda: client.hlen("unacked") == 0)
            assert len(shop.runs.begun("a")) == 1
            assert shop.size("park_late", "a") == 0
