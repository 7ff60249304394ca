"""The store goes away and comes back while tasks are parked and handed over."""

import time

import pytest

from cachify_tasks._core.commands import Acquire, Inspect, Release, StartReserved
from cachify_tasks.celery.app import runtime_of
from tests.support.proxy import FaultProxy
from tests.support.waiting import wait_until
from tests.support.workers import write_app


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
@pytest.mark.parametrize("choice", ["retry", "run"])
def test_parked_tasks_run_once_each_though_the_store_was_killed(make_shop, private_server, pool, choice):
    store = private_server(append_only=True)
    shop = make_shop(
        store_url=store.url, worker_prefetch_multiplier=8, cachify_lease_ttl=3, cachify_start_timeout=1,
        cachify_on_store_error=choice,
    )  # fmt: skip
    with shop.worker(pool=pool, concurrency=3) as worker:
        shop.send("park", "killed", "ok", "killed.go")
        shop.runs.wait_begun("killed")
        sent = [shop.send("park", "killed", "sleep-0.03") for _ in range(20)]
        shop.wait_parked(20)
        shop.open("killed.go")
        shop.runs.wait_begun("killed", 6)
        store.kill()
        wait_until(lambda: "could not answer" in worker.logs() or "out of reach" in worker.logs())
        store.restart()

        assert [one.get() for one in sent] == ["sleep-0.03 done"] * 20
        shop.wait_quiet()
        assert sorted(shop.ids("killed")[1:]) == sorted(one.id for one in sent)
        assert shop.runs.peak("killed") == 1
        assert "Traceback" not in worker.logs()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_hand_overs_survive_connections_that_are_cut_again_and_again(make_shop, private_server, pool):
    store = private_server(append_only=True)
    with FaultProxy(store.port) as proxy:
        shop = make_shop(store_url=f"redis://127.0.0.1:{proxy.port}/0", worker_prefetch_multiplier=8)
        with shop.worker(pool=pool, concurrency=3) as worker:
            sent = [shop.send("park", "cut", "sleep-0.02") for _ in range(40)]
            for turn in range(1, 5):
                shop.runs.wait_begun("cut", 8 * turn)
                proxy.cut()

            assert [one.get() for one in sent] == ["sleep-0.02 done"] * 40
            shop.wait_quiet()
            assert sorted(shop.ids("cut")) == sorted(one.id for one in sent)
            assert shop.runs.peak("cut") == 1
            assert "Traceback" not in worker.logs()


@pytest.mark.parametrize("assured", [True, False])
def test_a_heir_begins_without_the_store_only_while_its_slot_is_surely_reserved(make_shop, private_server, assured):
    store = private_server(append_only=True)
    shop = make_shop(
        store_url=store.url, worker_prefetch_multiplier=8, cachify_on_store_error="run",
        cachify_start_timeout=30 if assured else 1,
    )  # fmt: skip
    app = shop.folder / "app.py"  # its slot is kept for an heir however long it waits for a process
    app.write_text(app.read_text() + "from cachify_tasks._worker import handovers\nhandovers.PATIENCE = 3600\n")
    with shop.worker(concurrency=2) as worker:
        shop.send("park", "open", "ok", "open.go")
        shop.runs.wait_begun("open")
        heir = shop.send("park", "open")
        shop.wait_parked(1)
        blockers = [shop.send("plain", "blocker", "ok", "blocker.go") for _ in range(2)]
        wait_until(lambda: worker.logs().count("received") >= 4)
        shop.open("open.go")
        shop.runs.wait_begun("blocker", 2)
        shop.wait_parked(0)  # its slot is reserved, and it waits for a process
        handed_over = time.monotonic()
        store.kill()
        if assured:
            shop.open("blocker.go")
            shop.runs.wait_begun("open", 2)
        else:
            wait_until(lambda: time.monotonic() - handed_over > 0.6)
            shop.open("blocker.go")
            wait_until(lambda: "asking for slots" in worker.logs())
            assert len(shop.runs.begun("open")) == 1
        store.restart()

        assert heir.get() == "ok done"
        assert [one.get() for one in blockers] == ["ok done"] * 2
        shop.wait_quiet()
        assert shop.ids("open")[1:] == [heir.id]


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_task_that_was_parked_and_run_elsewhere_while_the_store_was_away_does_not_run_again(
    make_shop, private_server, pool
):
    server = private_server(append_only=True)
    shop = make_shop(store_url=server.url)
    store = runtime_of(shop.app).store
    held = store.execute(
        Acquire(pool="park-away", holder="elsewhere", request_id="e", limit=1, lease_ms=300000, start_ms=10000)
    )
    with FaultProxy(server.port) as proxy:
        write_app(shop.folder, **shop.options | {"store": f"{proxy.url}?socket_timeout=1&socket_connect_timeout=1"})
        with shop.worker(pool=pool) as worker:
            assert shop.send("park", "warm").get() == "ok done"
            wait_until(lambda: store.execute(Inspect("park-warm")).holders == () and proxy.replies == proxy.commands)
            proxy.refuse()  # the connections that are there go on
            proxy.drop_replies(1, command="EVALSHA")
            sent = shop.send("park", "away")
            wait_until(lambda: proxy.dropped == 1)
            proxy.cut()
            wait_until(lambda: "asking for slots" in worker.logs())

            assert store.execute(Inspect("park-away")).waiting == 1
            release = Release(
                pool="park-away",
                holder="elsewhere",
                token=held.token,
                request_id="e",
                start_ms=10000,
                tomb_ms=60000,
                can_start_heirs=True,
            )
            (heir,) = store.execute(release).heirs
            assert heir.holder.startswith(f"{sent.id}:0#")
            run = store.execute(
                StartReserved(
                    pool="park-away", holder=heir.holder, request_id="r", limit=1, lease_ms=300000, start_ms=10000
                )
            )
            store.execute(
                Release(
                    pool="park-away", holder=heir.holder, token=run.token, request_id="r", start_ms=10000, tomb_ms=60000
                )
            )
            proxy.heal()

            wait_until(lambda: "this copy is dropped" in worker.logs())
            shop.wait_quiet()
            assert shop.ids("away") == []


def test_an_heir_whose_start_is_reported_too_late_has_lost_its_lease(make_shop):
    shop = make_shop(cachify_start_timeout=2, worker_prefetch_multiplier=8)
    hook = (
        "from cachify_tasks._worker import reaper\nfrom cachify_tasks.celery import prefork_gate\n"
        "prefork_gate.SOON = 6\nprefork_gate.CHECK_EVERY = reaper.EVERY = 3600\n"
    )
    (shop.folder / "app.py").write_text((shop.folder / "app.py").read_text() + hook)
    store = runtime_of(shop.app).store
    with shop.worker(concurrency=2) as worker:
        shop.send("park", "late", "ok", "late.go")
        shop.runs.wait_begun("late")
        heir = shop.send("park_late", "late", "ok", "heir.go")
        shop.wait_parked(1)
        shop.open("late.go")
        shop.runs.wait_begun("late", 2)
        (reserved,) = store.execute(Inspect("park-late")).holders
        assert reserved.reserved

        other = StartReserved(
            pool="park-late",
            holder=reserved.holder,
            request_id="other",
            limit=1,
            lease_ms=300000,
            start_ms=10000,
            can_start_heirs=True,
        )
        wait_until(lambda: store.execute(other).status == "granted")
        wait_until(lambda: "was lost before its run ended" in worker.logs())
        shop.open("heir.go")
        assert heir.get() == "ok done"
        assert [holder.reserved for holder in store.execute(Inspect("park-late")).holders] == [False]
        token = store.execute(other).token
        store.execute(
            Release(
                pool="park-late", holder=other.holder, token=token, request_id="other", start_ms=10000, tomb_ms=10000
            )
        )
        shop.wait_quiet()


def test_a_heir_that_goes_back_leaves_no_slot_though_the_store_had_not_heard_of_its_beginning(
    make_shop, private_server
):
    server = private_server(append_only=True)
    shop = make_shop(store_url=server.url, cachify_start_timeout=20)
    with FaultProxy(server.port) as proxy:
        write_app(shop.folder, **shop.options | {"store": proxy.url})
        hook = (
            "from cachify_tasks._worker import outage, reaper\nfrom cachify_tasks.celery import prefork_gate\n"
            "prefork_gate.SOON, prefork_gate.CHECK_EVERY, reaper.EVERY = 3, 5, 60\n"
            "outage.FIRST = outage.LONGEST = 0.1\n"
        )
        (shop.folder / "app.py").write_text((shop.folder / "app.py").read_text() + hook)
        with shop.worker(concurrency=2) as worker:
            shop.send("park", "back", "ok", "back.go")
            shop.runs.wait_begun("back")
            heir = shop.send("park_late", "back", "requeue", "heir.go")
            shop.wait_parked(1)
            shop.open("back.go")
            shop.runs.wait_begun("back", 2)
            proxy.refuse()
            proxy.cut()
            wait_until(lambda: "releasing slots" in worker.logs())
            proxy.heal()
            refused = time.monotonic()
            wait_until(lambda: time.monotonic() - refused > 0.2)
            shop.open("heir.go")

            assert heir.get() == "requeue done"
            shop.wait_quiet()
            assert shop.runs.peak("back") == 1
            assert "was lost" not in worker.logs()


def test_other_tasks_run_while_the_store_hangs(make_shop, private_server):
    store = private_server(append_only=True)
    with FaultProxy(store.port) as proxy:
        shop = make_shop(store_url=proxy.url, worker_prefetch_multiplier=8)
        with shop.worker(concurrency=4):
            held = [shop.send("park", f"hangs-{n}", "ok", "hangs.go") for n in range(4)]
            for n in range(4):
                shop.runs.wait_begun(f"hangs-{n}")
            proxy.blackhole()
            shop.open("hangs.go")
            waiting = [shop.send("park", f"more-{n}") for n in range(8)]

            for _ in range(5):
                assert shop.send("plain", "other").get(timeout=12) == "ok done"
            proxy.heal()
            assert [one.get(timeout=40) for one in held + waiting] == ["ok done"] * 12
            shop.wait_quiet()
