"""A message that the broker delivers twice: its task runs once."""

import time

import pytest
import redis

from tests.support.waiting import wait_until


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_second_delivery_of_a_running_task_runs_once(make_shop, pool):
    shop = make_shop(broker_transport_options={"visibility_timeout": 1})
    with shop.worker(pool=pool, name="first") as first:
        task = shop.send("late", "twice", "ok", "twice.go")
        shop.runs.wait_begun("twice")
        outlive_visibility(shop)

        with shop.worker(pool=pool, name="second") as second:  # kombu restores when a worker connects
            wait_until(lambda: "a copy of its message is kept aside" in first.logs() + second.logs())
            shop.open("twice.go")

            assert task.get() == "ok done"
            wait_until(lambda: shop.size("late", "twice") == 0)
            time.sleep(1.5)  # a round of the reaper: it must find nothing
            assert len(shop.runs.begun("twice")) == 1
            assert task.state == "SUCCESS"


def outlive_visibility(shop) -> None:
    """Make the broker believe that its unacknowledged messages are old."""
    with redis.Redis.from_url(shop.broker_url) as client:
        assert client.zcard("unacked_index") > 0
        for tag in client.zrange("unacked_index", 0, -1):
            client.zadd("unacked_index", {tag: 1})


def test_the_copy_of_a_task_whose_worker_was_killed_runs(make_shop):
    shop = make_shop(cachify_lease_ttl=3, broker_transport_options={"visibility_timeout": 1})
    with shop.worker(name="first") as first:
        task = shop.send("late", "orphan", "hang")
        shop.runs.wait_begun("orphan")
        first.kill()
        first.wait_ended()
        outlive_visibility(shop)

        with shop.worker(name="second"):
            assert task.get() == "hang done"
            assert len(shop.runs.begun("orphan")) == 2
            wait_until(lambda: shop.size("late", "orphan") == 0)


def test_a_program_may_send_one_id_again(make_shop):
    shop = make_shop()
    with shop.worker():
        for turn in range(1, 3):
            assert shop.send("late", "again", task_id="fixed").get() == "ok done"
            shop.runs.wait_begun("again", turn)
            wait_until(lambda: shop.size("late", "again") == 0)
            shop.app.backend.delete("celery-task-meta-fixed")

        assert [line["id"] for line in shop.runs.begun("again")] == ["fixed"] * 2


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_two_tasks_under_one_id_both_run_with_their_own_arguments(make_shop, pool):
    shop = make_shop()
    with shop.worker(pool=pool):
        shop.send("park_late", "first", "ok", "go")
        shop.runs.wait_begun("first")
        for mode in ("sleep-0.01", "sleep-0.02"):  # under one key; the second parks behind the first
            shop.send("park_late", "two", mode, "go", task_id="fixed")
        shop.open("go")

        shop.runs.wait_begun("two", 2)
        shop.wait_quiet()

    assert shop.ids("two") == ["fixed"] * 2


def test_two_tasks_under_one_id_and_with_the_same_arguments_both_run(make_shop):
    shop = make_shop()
    with shop.worker():
        for _ in range(3):
            shop.send("park_late", "same", "ok", "go", task_id="fixed")
        shop.runs.wait_begun("same")
        shop.wait_parked(2)
        shop.open("go")

        shop.runs.wait_begun("same", 3)
        shop.wait_quiet()

    assert shop.ids("same") == ["fixed"] * 3
