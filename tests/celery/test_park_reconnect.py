"""A worker that loses its broker forgets what waits for a place in it; heirs do not depend on the broker."""

import redis

from cachify_tasks._core.commands import Acquire, Release
from cachify_tasks.celery.app import runtime_of
from tests.support.proxy import FaultProxy
from tests.support.waiting import wait_until
from tests.support.workers import write_app


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


def test_a_worker_without_its_broker_leaves_parked_tasks_to_those_that_can_start_them(
    make_shop, private_server, broker_url
):
    server = private_server()
    shop = make_shop(broker_url=server.url, backend_url=broker_url, cachify_start_timeout=60)
    store = runtime_of(shop.app).store
    app, hook = shop.folder / "app.py", "from cachify_tasks._worker import reaper\nreaper.EVERY = {}\n"
    with FaultProxy(server.port) as proxy:
        write_app(shop.folder, **shop.options | {"broker": proxy.url})
        app.write_text(app.read_text() + hook.format(0.2))
        with shop.worker(name="lost") as lost:
            write_app(shop.folder, **shop.options)
            app.write_text(app.read_text() + hook.format(5))
            with shop.worker(name="well"):
                proxy.refuse()
                proxy.cut()
                wait_until(lambda: "Cannot connect" in lost.logs(), 20)
                held = store.execute(
                    Acquire(
                        pool="park-free", holder="elsewhere", request_id="e", limit=1, lease_ms=30000, start_ms=10000
                    )
                )
                parked = shop.send("park", "free")
                shop.wait_parked(1)
                store.execute(
                    Release(
                        pool="park-free",
                        holder="elsewhere",
                        token=held.token,
                        request_id="e",
                        start_ms=10000,
                        tomb_ms=60000,
                    )
                )

                assert parked.get() == "ok done"
                shop.wait_quiet()
