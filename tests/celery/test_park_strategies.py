"""What becomes of tasks that may not wait, or not any longer; who goes first."""

import time
from functools import partial

import pytest

from cachify_tasks import CachifyPoolFullError
from tests.support.proxy import FaultProxy
from tests.support.waiting import wait_until


def passed(moment):
    return time.monotonic() > moment


def answer(sent):
    """How a task ended: its result, or the name of its error."""
    try:
        return sent.get()
    except BaseException as error:  # noqa: BLE001  # it is what is asked for
        return type(error).__name__


ANSWERS = {
    "drop": "TaskRevokedError", "drop_with": 7, "raise": "CachifyPoolFullError", "again": 5, "cached": -1,
    "called": ["called", "key", 5],
}  # fmt: skip


def test_a_task_that_waited_longer_than_max_age_and_is_hinted_at_meets_the_other_strategy(make_shop):
    shop = make_shop(worker_prefetch_multiplier=8)
    with shop.worker(concurrency=3), shop.worker(name="else", args=["-Q", "elsewhere"]):
        for then, expected in ANSWERS.items():
            key = f"old-{then}"
            shop.send("park", key, "ok", f"{key}.go", queue="elsewhere")
            shop.runs.wait_begun(key)
            old = shop.send(f"park_old_{then}", key, 5)
            shop.wait_parked(1)
            wait_until(partial(passed, time.monotonic() + 0.4))
            shop.open(f"{key}.go")

            assert answer(old) == (["called", key, 5] if then == "called" else expected)
            assert len(shop.ids(key)) == (2 if then == "again" else 1)
        shop.wait_quiet()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_put_off_at_its_turn_is_not_taken_for_a_copy_of_itself(make_shop, pool):
    shop = make_shop(worker_prefetch_multiplier=16)
    with shop.worker(pool=pool, concurrency=3) as worker:
        shop.send("park", "hot", "ok", "hot.go")
        shop.runs.wait_begun("hot")
        sent = [shop.send("park_old_hot", "hot", n) for n in range(15)]
        shop.wait_parked(15)
        wait_until(partial(passed, time.monotonic() + 0.4))
        shop.open("hot.go")

        assert [one.get() for one in sent] == list(range(15))
        shop.wait_quiet()
        assert "a copy" not in worker.logs()
        assert len(shop.ids("hot")) == 16


def test_higher_priorities_go_first_and_nonsense_fails_its_task_alone(make_shop):
    shop = make_shop(worker_prefetch_multiplier=20)
    with shop.worker(concurrency=3) as worker:
        shop.send("park", "first", "ok", "first.go")
        shop.send("park", "message", "ok", "message.go")
        shop.runs.wait_begun("first")
        shop.runs.wait_begun("message")

        levels = [shop.send("park_first", "first", level) for level in (0, 5, 255, 5, 0)]
        shop.wait_parked(5)
        nonsense = [shop.send("park_first", "first", level) for level in (256, -1, "high", None, 1.5)]
        assert [answer(one) for one in nonsense] == ["ValueError"] * 5
        # Redis: the smaller number is delivered first
        by_message = [shop.send("park_message", "message", n, priority=n) for n in (9, 3, 0, 6)]
        shop.wait_parked(9)
        shop.open("first.go")
        shop.open("message.go")

        assert [one.get() for one in levels] == [0, 5, 255, 5, 0]
        assert [one.get() for one in by_message] == [9, 3, 0, 6]
        order = [levels[n].id for n in (2, 1, 3, 0, 4)]
        assert shop.ids("first")[1:] == order
        assert shop.ids("message")[1:] == [by_message[n].id for n in (2, 1, 3, 0)]
        shop.wait_quiet()
        assert "Traceback" not in worker.logs().split("ValueError", 1)[0]


def test_a_task_without_on_full_parks_and_its_eager_call_says_why_it_cannot(make_shop):
    shop = make_shop()
    with shop.worker():
        shop.send("park", "default", "ok", "default.go")
        shop.runs.wait_begun("default")
        sent = shop.send("park_default", "default")
        shop.wait_parked(1)

        with pytest.raises(CachifyPoolFullError, match="parked only by a worker"):
            shop.app.tasks["park_default"].apply(("default",), throw=True)
        shop.open("default.go")

        assert sent.get() == "ok done"
        shop.wait_quiet()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_waited_too_long_stays_where_the_broker_takes_no_new_message(make_shop, redis_server, pool):
    with FaultProxy(redis_server.port, resp=False) as proxy:
        shop = make_shop(broker_url=f"redis://127.0.0.1:{proxy.port}/1", backend_url=redis_server.url)
        with shop.worker(pool=pool) as worker:
            shop.send("park", "refused", "ok", "refused.go")
            shop.runs.wait_begun("refused")
            old = shop.send("park_old_again", "refused", 5)
            shop.wait_parked(1)
            parked = time.monotonic()
            wait_until(lambda: time.monotonic() - parked > 0.4)  # longer than its max_age
            proxy.refuse()  # connections that are there go on; to publish the worker makes one
            shop.open("refused.go")
            wait_until(lambda: "could not be sent again" in worker.logs())
            proxy.heal()

            assert old.get() == 5
            shop.wait_quiet()
            assert shop.ids("refused")[1:] == [old.id]
