"""Many messages, few slots; processes that come and go."""

import json
import subprocess
import sys

import pytest

from tests.support.waiting import wait_until


def test_1500_refused_messages_do_not_end_the_worker(make_shop):
    shop = make_shop()
    with shop.worker(concurrency=1, args=["--prefetch-multiplier=1500"]) as worker:
        first = shop.send("busy", "go")
        wait_until(lambda: shop.size("busy") == 1)
        with shop.app.producer_pool.acquire(block=True) as producer:
            sent = [shop.send("drops", 1, producer=producer) for _ in range(1500)]
        shop.open("go")

        assert first.get() == "ok done"
        last = shop.send("busy", "")
        assert last.get() == "ok done"
        for one in (sent[0], sent[700], sent[-1]):
            shop.wait_state(one, "REVOKED", "SUCCESS")
        assert "RecursionError" not in worker.logs()
        assert worker.exit_code is None


def test_1500_messages_refused_at_once_do_not_end_the_worker(make_shop):
    shop = make_shop()
    with shop.worker(name="holder", args=["-Q", "other"]):
        held = shop.send("busy", "go", queue="other")
        wait_until(lambda: shop.size("busy") == 1)
        with shop.app.producer_pool.acquire(block=True) as producer:
            sent = [shop.send("drops", 1, producer=producer) for _ in range(1500)]

        with shop.worker(concurrency=2, args=["--prefetch-multiplier=1500"]) as worker:
            assert shop.wait_state(sent[-1], "REVOKED")
            for n in range(0, 1500, 50):
                shop.wait_state(sent[n], "REVOKED")
            assert "RecursionError" not in worker.logs()
            assert worker.exit_code is None
            assert shop.send("add", 1, 2).get() == 3
        shop.open("go")
        assert held.get() == "ok done"
        wait_until(lambda: shop.size("busy") == 0)


@pytest.mark.parametrize("args", [["--max-tasks-per-child=2"], ["--autoscale=4,1"]], ids=["per-child", "autoscale"])
def test_limits_hold_while_processes_come_and_go(make_shop, args):
    shop = make_shop()
    with shop.worker(concurrency=3, args=args):
        sent = [shop.send("two", "churn", "sleep-0.05") for _ in range(24)]

        assert [one.get() for one in sent] == ["sleep-0.05 done"] * 24
        assert shop.runs.peak("churn") <= 2
        assert len(shop.runs.begun("churn")) == 24
        wait_until(lambda: shop.size("two", "churn") == 0)


def test_a_worker_says_who_holds_what(make_shop):
    shop = make_shop(cachify_lease_ttl=20)
    with shop.worker():
        sent = shop.send("one", "seen", "ok", "seen.go")
        shop.runs.wait_begun("seen")

        command = [sys.executable, "-m", "celery", "-A", "app", "inspect", "pools", "--json", "--timeout", "60"]
        told = subprocess.run([*command, "-d", "w@test"], cwd=shop.folder, capture_output=True, text=True, check=True)

        pools = json.loads(told.stdout)["w@test"]
        assert list(pools) == ["one-seen"]
        pool = pools["one-seen"]
        assert (pool["limit"], pool["held"], pool["waiting"]) == (1, 1, 0)
        (holder,) = pool["holders"]
        assert holder["holder"].startswith(f"{sent.id}:0#")
        assert holder["task"] == "one @w@test"
        assert holder["state"] == "running"
        assert 0 < holder["lease_expires_in"] <= 20
        shop.open("seen.go")
        assert sent.get() == "ok done"
        wait_until(lambda: shop.size("one", "seen") == 0)
