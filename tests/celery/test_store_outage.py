"""A store that does not answer ends no worker and loses no task."""

import pytest

from tests.support.proxy import FaultProxy
from tests.support.waiting import PATIENCE_S, wait_until
from tests.support.workers import write_app

POOLS = ["prefork", "threads", "solo", "gevent"]


@pytest.fixture
def store(private_server):
    return private_server(append_only=True)


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_starts_without_its_store_and_tasks_run_when_it_answers(make_shop, store, pool):
    shop = make_shop(store_url=store.url)
    store.kill()
    with shop.worker(pool=pool) as worker:
        sent = [shop.send("two", "start", "ok") for _ in range(4)]
        wait_until(lambda: "asking for slots" in worker.logs())
        assert shop.runs.begun("start") == []

        store.restart()

        assert [one.get() for one in sent] == ["ok done"] * 4
        assert len(shop.runs.begun("start")) == 4
        wait_until(lambda: shop.size("two", "start") == 0)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_nothing_is_lost_when_the_store_is_killed_and_restarted_while_tasks_flow(make_shop, store, pool):
    shop = make_shop(store_url=store.url, cachify_lease_ttl=3)
    with shop.worker(pool=pool) as worker:
        sent = [shop.send("two", "flow", "sleep-0.05") for _ in range(24)]
        shop.runs.wait_begun("flow", 5)
        store.kill()
        wait_until(lambda: "could not answer" in worker.logs())
        store.restart()

        assert [one.get() for one in sent] == ["sleep-0.05 done"] * 24
        assert sorted(line["id"] for line in shop.runs.begun("flow")) == sorted(one.id for one in sent)
        assert shop.runs.peak("flow") <= 2
        wait_until(lambda: shop.size("two", "flow") == 0)
        assert worker.exit_code is None


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("choice", ["raise", "run"])
def test_on_store_error_says_what_a_task_does_meanwhile(make_shop, store, pool, choice):
    shop = make_shop(store_url=store.url, cachify_on_store_error=choice)
    store.kill()
    with shop.worker(pool=pool):
        sent = [shop.send("add", n, 1) for n in range(3)]

        if choice == "run":
            assert [one.get() for one in sent] == [1, 2, 3]
        else:
            for one in sent:
                shop.wait_state(one, "FAILURE")
                with pytest.raises(Exception, match=r"could not answer|out of reach"):
                    one.get()


def test_wrong_credentials_end_the_worker_with_an_error_that_hides_the_password(make_shop, private_server):
    server = private_server(extra_args=("--requirepass", "right"))
    shop = make_shop(store_url=f"redis://:wrong-secret@127.0.0.1:{server.port}/0")
    with shop.worker(name="denied").start(ready=False) as worker:
        assert worker.wait_ended() != 0

        assert "cachify_url" in worker.logs()
        assert "refused the credentials" in worker.logs()
        assert "wrong-secret" not in worker.logs()


def end_while_the_store_is_away(shop, store, worker):
    first = shop.send("one", "held", "ok", "held.go")
    shop.runs.wait_begun("held")
    store.kill()
    shop.open("held.go")
    assert first.get() == "ok done"
    wait_until(lambda: "releasing slots" in worker.logs())
    store.restart()


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_release_that_fails_is_sent_again_long_before_the_lease_ends(make_shop, store, pool):
    shop = make_shop(store_url=store.url)
    with shop.worker(pool=pool) as worker:
        end_while_the_store_is_away(shop, store, worker)

        wait_until(lambda: shop.size("one", "held") == 0)


def test_a_release_is_sent_again_as_soon_as_the_reaper_finds_the_store(make_shop, store):
    shop = make_shop(store_url=store.url)
    # Longer than is waited below.
    hook = "from cachify_tasks._worker import outage\noutage.FIRST = outage.LONGEST = 120.0\n"
    (shop.folder / "app.py").write_text((shop.folder / "app.py").read_text() + hook)
    with shop.worker() as worker:
        end_while_the_store_is_away(shop, store, worker)

        wait_until(lambda: shop.size("one", "held") == 0)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_tasks_without_a_pool_go_on_while_the_store_hangs(make_shop, private_server, pool):
    store = private_server()
    with FaultProxy(store.port) as proxy:
        # The store may receive a request after its sender has given it up: that slot is free when its lease has ended.
        shop = make_shop(store_url=store.url, cachify_lease_ttl=3)
        write_app(shop.folder, **shop.options | {"store": proxy.url})
        with shop.worker(pool=pool, concurrency=2):  # eight messages are prefetched
            assert shop.send("echo", 0).get() == 0
            proxy.blackhole()
            pooled = [shop.send("echo", number) for number in range(1, 40)]
            plain = [shop.send("plain", f"plain-{number}") for number in range(5)]

            assert [one.get() for one in plain] == ["ok done"] * 5
            assert {one.state for one in pooled} <= {"PENDING", "RETRY"}
            proxy.heal()
            assert [one.get() for one in pooled] == list(range(1, 40))


def test_1500_messages_that_wait_for_a_process_survive_the_loss_of_the_store(make_shop, store):
    shop = make_shop(store_url=store.url)
    with shop.worker(concurrency=1, args=["--prefetch-multiplier=1600"]) as worker:
        busy = shop.send("plain", "busy", "ok", "busy.go")
        shop.runs.wait_begun("busy")
        with shop.app.producer_pool.acquire(block=True) as producer:
            sent = [shop.send("echo", n, producer=producer) for n in range(1500)]
        wait_until(lambda: worker.logs().count("Task echo") >= 1500, PATIENCE_S)
        store.kill()

        shop.open("busy.go")
        assert busy.get() == "ok done"
        wait_until(lambda: "asking for slots" in worker.logs())
        store.restart()

        assert [one.get() for one in sent] == list(range(1500))
        assert "RecursionError" not in worker.logs()
        assert worker.exit_code is None
