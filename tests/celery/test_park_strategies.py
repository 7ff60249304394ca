"""What becomes of tasks that may not wait, or not any longer; who goes first."""

import time
from functools import partial

import pytest

from cachify_tasks import CachifyPoolFullError
from tests.support.proxy import FaultProxy
from tests.support.waiting import wait_until
from tests.support.workers import together


def passed(moment):
    return time.monotonic() > moment


def answer(sent):
    """How a task ended: its result, or the name of its error."""
    try:
        return sent.get()
    except BaseException as error:  # noqa: BLE001  # it is what is asked for
        return type(error).__name__


@pytest.fixture(scope="module", params=["prefork", "threads", "called"])
def shared(make_shared_shop, request):
    """A shop with a worker; "called": beside a worker of another queue, `shop.elsewhere`, which calls it."""
    shop = make_shared_shop(worker_prefetch_multiplier=20)
    called = request.param == "called"
    worker = shop.worker(pool="prefork" if called else request.param, concurrency=7)
    others = [shop.worker(name="else", concurrency=7, args=["-Q", "elsewhere"])] if called else []
    shop.elsewhere = "elsewhere" if called else "shop"
    shop.worker_log = worker.logs
    with together(worker, *others):
        yield shop


@pytest.fixture
def shop(shared):
    yield shared
    shared.wait_quiet()


# Where the test says nothing of what is called, two workers are enough to know.
IN_ONE_WORKER = pytest.mark.parametrize("shared", ["prefork", "threads"], indirect=True, scope="module")
IN_PREFORK = pytest.mark.parametrize("shared", ["prefork"], indirect=True, scope="module")

ANSWERS = {
    "drop": "TaskRevokedError", "drop_with": 7, "raise": "CachifyPoolFullError", "again": 5, "cached": -1,
    "called": ["called", "key", 5],
}  # fmt: skip


@IN_ONE_WORKER
def test_a_task_beyond_max_parked_meets_the_other_strategy(shop):
    for then, expected in ANSWERS.items():
        shop.send("park", then, "ok", f"{then}.go")
        shop.runs.wait_begun(then)
        waits = shop.send(f"park_few_{then}", then, 4)
        shop.wait_parked(1)
        beyond = shop.send(f"park_few_{then}", then, 5)

        if then == "again":
            shop.wait_state(beyond, "RETRY")
        else:
            assert answer(beyond) == (["called", then, 5] if then == "called" else expected)
        shop.open(f"{then}.go")
        assert waits.get() == 4
        assert then != "again" or beyond.get() == 5


def test_a_task_that_waited_longer_than_max_age_meets_the_other_strategy(shop):
    for then in ANSWERS:
        shop.send("park", f"old-{then}", "ok", "old.go", queue=shop.elsewhere)
    for then in ANSWERS:
        shop.runs.wait_begun(f"old-{then}")
    sent = {then: shop.send(f"park_old_{then}", f"old-{then}", 5) for then in ANSWERS}
    shop.wait_parked(len(ANSWERS))
    wait_until(partial(passed, time.monotonic() + 0.4))
    shop.open("old.go")

    for then, expected in ANSWERS.items():
        assert answer(sent[then]) == (["called", f"old-{then}", 5] if then == "called" else expected)
        assert len(shop.ids(f"old-{then}")) == (2 if then == "again" else 1)


@IN_ONE_WORKER
def test_a_task_put_off_at_its_turn_is_not_taken_for_a_copy_of_itself(shop):
    shop.send("park", "hot", "ok", "hot.go")
    shop.runs.wait_begun("hot")
    sent = [shop.send("park_old_hot", "hot", n) for n in range(15)]
    shop.wait_parked(15)
    wait_until(partial(passed, time.monotonic() + 0.4))
    shop.open("hot.go")

    assert [one.get() for one in sent] == list(range(15))
    shop.wait_quiet()
    assert "a copy" not in shop.worker_log()
    assert len(shop.ids("hot")) == 16


@IN_PREFORK
def test_higher_priorities_go_first_and_nonsense_fails_its_task_alone(shop):
    logged = len(shop.worker_log())
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
    assert "Traceback" not in shop.worker_log()[logged:].split("ValueError", 1)[0]


@IN_PREFORK
def test_a_task_without_on_full_parks_and_its_eager_call_says_why_it_cannot(shop):
    shop.send("park", "default", "ok", "default.go")
    shop.runs.wait_begun("default")
    sent = shop.send("park_default", "default")
    shop.wait_parked(1)

    with pytest.raises(CachifyPoolFullError, match="parked only by a worker"):
        shop.app.tasks["park_default"].apply(("default",), throw=True)
    shop.open("default.go")

    assert sent.get() == "ok done"


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
