"""A slot is free again however its task ends: threads, solo and gevent."""

import signal
from collections.abc import Iterator

import pytest

from tests.celery.conftest import Sent, Shop
from tests.celery.test_release_prefork import ENDS, assert_followed, assert_freed_promptly, run_two
from tests.support.waiting import wait_until
from tests.support.workers import together

POOLS = ["threads", "solo", "gevent"]


@pytest.fixture(scope="module", params=POOLS)
def shop(request, make_shared_shop) -> Iterator[Shop]:
    shop = make_shared_shop(queue=request.param)
    with shop.worker(pool=request.param, concurrency=3):
        yield shop


@ENDS
@pytest.mark.parametrize("name", ["one", "late"])
def test_a_slot_is_free_after(shop, name, mode, state):
    assert_freed_promptly(shop, name, mode, state)


def test_a_slot_is_free_after_a_reject_with_requeue_and_the_task_runs_again(shop):
    first, second = run_two(shop, "late", "requeue", "requeue")

    assert_followed(shop, "requeue", first, second)
    assert first.get() == "requeue done"
    assert shop.runs.peak("requeue") == 1


def test_no_more_than_the_limit_run_at_once(shop):
    sent = [shop.send("two", "peak", "sleep-0.03") for _ in range(20)]

    assert [one.get() for one in sent] == ["sleep-0.03 done"] * 20
    assert shop.runs.peak("peak") <= 2
    assert len(shop.runs.begun("peak")) == 20
    wait_until(lambda: shop.size("two", "peak") == 0)


def test_the_error_of_a_strategy_is_its_tasks_alone(shop):
    if shop.options["queue"] == "solo":
        pytest.skip("solo runs one task at a time")
    holder = shop.send("busy", "rude.go")
    wait_until(lambda: shop.size("busy") == 1)

    with pytest.raises(ZeroDivisionError, match="asked about busy"):
        shop.send("rude", 1).get()

    shop.open("rude.go")
    assert holder.get() == "ok done"
    wait_until(lambda: shop.size("busy") == 0)


def test_a_key_that_cannot_be_sent_is_the_error_of_its_task_alone(shop):
    wrong = [shop.send("one", "\ud800"), shop.send("one", "key", shadow="\ud800")]
    right = shop.send("one", "right")

    for sent in wrong:
        with pytest.raises(ValueError, match="lone surrogate"):
            sent.get()
    assert right.get() == "ok done"


@pytest.mark.parametrize("how", ["hard", "terminate"])
def test_a_slot_is_free_after_a_greenlet_was_killed(make_shop, how):
    shop = make_shop()
    with shop.worker(pool="gevent", concurrency=3):
        first = shop.send("one", how, "hang", time_limit=1 if how == "hard" else None)
        shop.runs.wait_begun(how)
        second = shop.send("one", how)
        if how == "terminate":
            shop.wait_state(second, "RETRY")
            shop.app.control.revoke(first.id, terminate=True)

        assert second.get() == "ok done"
        assert shop.wait_state(first, *(["FAILURE"] if how == "hard" else ["REVOKED"]))
        last_tick = max(line["t"] for line in shop.runs.all() if line["id"] == first.id)
        assert last_tick < shop.runs.begun(how)[-1]["t"]
        wait_until(lambda: shop.size("one", how) == 0)


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_lets_its_task_end_and_frees_the_slot(make_shop, pool):
    shop = make_shop()
    with shop.worker(pool=pool) as worker:
        task = shop.send("one", "warm", "ok", "warm.go")
        shop.runs.wait_begun("warm")

        worker.kill(signal.SIGTERM)
        wait_until(lambda: "Warm shutdown" in worker.logs())
        shop.open("warm.go")

        assert worker.wait_ended() == 0
        assert task.get() == "ok done"
        assert shop.size("one", "warm") == 0


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_a_killed_worker_frees_its_slots_within_its_lease(make_shop, pool):
    shop = make_shop(cachify_lease_ttl=3)
    workers = [shop.worker(name=name, pool=pool, args=["-Q", name]) for name in ("first", "second")]
    with together(*workers) as (first, _):
        shop.send("one", "crash", "hang", queue="first")
        shop.runs.wait_begun("crash")
        waiting = shop.send("one", "crash", queue="second")
        shop.wait_state(waiting, "RETRY")

        first.kill(signal.SIGKILL)
        first.wait_ended()

        assert shop.lease_left("one-crash") <= 3
        assert waiting.get() == "ok done"
        wait_until(lambda: shop.size("one", "crash") == 0)


def test_threads_take_slots_only_for_tasks_that_run(make_shop):
    shop = make_shop()
    with shop.worker(pool="threads", concurrency=1, args=["--prefetch-multiplier=8"]) as worker:
        running = shop.send("two", "hoard", "ok", "hoard.go")
        shop.runs.wait_begun("hoard")
        queued = [shop.send("two", "hoard") for _ in range(6)]
        wait_until(lambda: worker.logs().count("Task two") >= 7)

        assert shop.size("two", "hoard") == 1

        shop.open("hoard.go")
        assert [one.get() for one in (running, *queued)] == ["ok done"] * 7
        wait_until(lambda: shop.size("two", "hoard") == 0)


@pytest.fixture(scope="module")
def long_runs(make_shared_shop) -> Iterator[tuple[Shop, dict[str, tuple[Sent, Sent]]]]:
    """For every pool a run longer than two leases, and a second one of its key that was sent meanwhile.

    They run at the same time, in four workers; a fifth one has all the second runs.
    """
    shop = make_shared_shop(cachify_lease_ttl=2)
    pools = ["prefork", *POOLS]
    workers = [shop.worker(name=pool, pool=pool, args=["-Q", f"long-{pool}"]) for pool in pools]
    with together(*workers, shop.worker(name="other", args=["-Q", "others"])):
        first = {pool: shop.send("one", f"long-{pool}", "sleep-4.5", queue=f"long-{pool}") for pool in pools}
        for pool in pools:
            shop.runs.wait_begun(f"long-{pool}")
        second = {pool: shop.send("one", f"long-{pool}", queue="others") for pool in pools}
        yield shop, {pool: (first[pool], second[pool]) for pool in pools}


@pytest.mark.parametrize("pool", ["prefork", *POOLS])
def test_a_run_keeps_its_slot_longer_than_a_lease_lives(long_runs, pool):
    shop, runs = long_runs
    first, second = runs[pool]
    key = f"long-{pool}"

    assert first.get() == "sleep-4.5 done"
    assert second.get() == "ok done"
    assert shop.runs.peak(key) == 1
    wait_until(lambda: shop.size("one", key) == 0)
