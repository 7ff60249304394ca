"""Workers end, parked tasks do not: another worker goes on with them."""

import signal

import pytest

from tests.support.waiting import wait_until
from tests.support.workers import together


def hold(shop, key, task="park", mode="ok", **options):
    sent = shop.send(task, key, mode, f"{key}.go", **options)
    shop.runs.wait_begun(key)
    return sent


def once_each(shop, key, sent):
    assert sorted(shop.ids(key)) == sorted(one.id for one in sent)
    shop.wait_quiet()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_another_worker_goes_on_when_one_is_shut_down_warm(make_shop, pool):
    shop = make_shop(worker_prefetch_multiplier=8)
    with shop.worker(name="first", pool=pool) as first:
        sent = [shop.send("park", "warm", "sleep-0.05") for _ in range(40)]
        shop.runs.wait_begun("warm", 6)
        with shop.worker(name="second", pool=pool):
            first.kill(signal.SIGTERM)
            assert first.wait_ended() == 0  # plain Celery, too, takes half a minute now and then

            assert [one.get() for one in sent] == ["sleep-0.05 done"] * 40
            once_each(shop, "warm", sent)
            assert shop.runs.peak("warm") == 1


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent"])
def test_a_worker_that_starts_runs_what_is_parked_without_traffic(make_shop, pool):
    shop = make_shop(worker_prefetch_multiplier=8, cachify_start_timeout=1, cachify_lease_ttl=3)
    with shop.worker(name="first", pool="prefork") as first:
        hold(shop, "alone", mode="hang")
        sent = [shop.send("park", "alone") for _ in range(10)]
        shop.wait_parked(10)
        first.kill(signal.SIGKILL)

    with shop.worker(name="second", pool=pool):
        assert [one.get() for one in sent] == ["ok done"] * 10
        assert shop.ids("alone")[1:] == [one.id for one in sent]
        shop.wait_quiet()


CHANGED = """
from shop import Park, pooled, stamp

for name in ("park", "park_late"):
    app.tasks.unregister(name)

    @app.task(name=name, bind=True, acks_late=name == "park_late", shared=False)
    {decorator}
    def changed(self, key, mode):
        stamp("begin", self, key)
        return mode
"""
CALLED = """
from cachify_tasks._worker.port import Refusal
from cachify_tasks.celery.gate import Gate

Gate.can_run = lambda *_: Refusal.NOT_MINE
"""


@pytest.mark.parametrize("way", ["prefork", "threads", "solo", "called"])
@pytest.mark.parametrize("decorator", ['@pooled(key="new-{key}", max_size=1, on_full=Park())', ""], ids=["key", "pool"])
def test_what_is_parked_runs_once_after_its_task_was_given_another_key_or_no_pool(make_shop, way, decorator):
    shop = make_shop(worker_prefetch_multiplier=16, cachify_start_timeout=1)
    with shop.worker(name="first", pool="threads") as first:
        hold(shop, "old", mode="sleep-0.5")
        sent = [shop.send(task, "old", task) for task in ("park", "park_late") * 5]
        shop.wait_parked(10)
        first.kill(signal.SIGTERM)
        wait_until(lambda: "Warm shutdown" in first.logs())
        shop.open("old.go")
        first.wait_ended()

    app = shop.folder / "app.py"
    app.write_text(app.read_text() + CHANGED.replace("{decorator}", decorator) + CALLED * (way == "called"))
    with shop.worker(name="second", pool="prefork" if way == "called" else way) as second:
        assert [one.get(timeout=40) for one in sent] == ["park", "park_late"] * 5
        shop.wait_quiet()
        assert sorted(shop.ids("old")[1:]) == sorted(one.id for one in sent)
        assert shop.send("plain", "after").get() == "ok done"
        assert "Traceback" not in second.logs()


def test_heirs_reserved_for_a_worker_that_is_killed_run_elsewhere(make_shop):
    shop = make_shop(worker_prefetch_multiplier=16, cachify_start_timeout=1, cachify_lease_ttl=3)
    keys = ["0", "1", "2"]
    with together(*(shop.worker(name=name, concurrency=4) for name in ("first", "second"))) as (first, _):
        for key in keys:
            hold(shop, key)
        sent = [shop.send("park_late", key, "sleep-0.02") for key in keys for _ in range(25)]
        shop.wait_parked(75)
        for key in keys:
            shop.open(f"{key}.go")
        shop.runs.wait_begun("0", 8)
        first.kill(signal.SIGKILL)

        assert [one.get() for one in sent] == ["sleep-0.02 done"] * 75
        for key in keys:
            ids = shop.ids(key)[1:]
            assert len(set(ids)) == 25
            assert len(ids) <= 26  # the run that was killed
        shop.wait_quiet()


def test_a_cold_shutdown_leaves_the_heirs_to_others(make_shop):
    shop = make_shop(worker_prefetch_multiplier=16, cachify_start_timeout=2)
    with together(shop.worker(name="first"), shop.worker(name="second")) as (first, _):
        sent = [shop.send("park_late", "cold", "sleep-0.05") for _ in range(30)]
        shop.runs.wait_begun("cold", 5)
        first.kill(signal.SIGQUIT)
        first.wait_ended()

        assert [one.get() for one in sent] == ["sleep-0.05 done"] * 30
        assert len(set(shop.ids("cold"))) == 30
        assert len(shop.ids("cold")) <= 31
        shop.wait_quiet()


def test_heirs_that_wait_for_a_process_are_passed_on_at_a_warm_shutdown(make_shop):
    shop = make_shop(worker_prefetch_multiplier=8, cachify_start_timeout=300)
    with shop.worker(name="first", concurrency=2) as first:
        hold(shop, "passed")
        heir = shop.send("park", "passed")
        shop.wait_parked(1)
        blockers = [shop.send("plain", "blocker", "ok", "blocker.go") for _ in range(2)]
        wait_until(lambda: first.logs().count("received") >= 4)
        shop.open("passed.go")  # a blocker gets the process, the heir waits for the next
        shop.runs.wait_begun("blocker", 2)
        with shop.worker(name="second", concurrency=1):
            first.kill(signal.SIGTERM)
            wait_until(lambda: "Warm shutdown" in first.logs())

            assert heir.get() == "ok done"
            shop.open("blocker.go")
            assert [one.get() for one in blockers] == ["ok done"] * 2
            shop.wait_quiet()
