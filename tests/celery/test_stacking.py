"""Ways to write a task: each is gated once, and keeps what Celery gives it."""

import os
from collections.abc import Iterator

import pytest
from celery import chain, chord, group, signature

from tests.celery.conftest import Shop
from tests.support.shop import WAYS
from tests.support.waiting import wait_until


@pytest.fixture(scope="module", params=["prefork", "threads"])
def shop(request, make_shared_shop) -> Iterator[Shop]:
    shop = make_shared_shop(queue=request.param)
    with shop.worker(pool=request.param, concurrency=3):
        yield shop


@pytest.mark.parametrize("name", WAYS)
def test_calls_share_their_limit_and_know_their_slot(shop, name):
    key = f"{name}-{os.urandom(3).hex()}"

    sent = [shop.send(name, key, 0.03) for _ in range(5)]

    for one in sent:
        pool, holder, held = one.get()
        assert (pool, holder.partition("#")[0], held) == (f"way-{key}", f"{one.id}:0", True)
    assert shop.runs.peak(key) == 1
    tokens = [line["token"] for line in shop.runs.begun(key)]
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 5
    wait_until(lambda: shop.size(name, key) == 0)


@pytest.mark.parametrize("name", [name for name in WAYS if "class" not in name])
def test_delay_checks_the_arguments(shop, name):
    task = shop.app.tasks[name]

    for wrong in (task.delay, lambda: task.delay("k", 0.1, 3), lambda: task.delay("k", nonsense=1)):
        with pytest.raises(TypeError):
            wrong()


@pytest.mark.parametrize("name", WAYS)
def test_size_takes_the_arguments_of_the_call(shop, name):
    assert shop.size(name, "nobody") == 0
    with pytest.raises((TypeError, ValueError)):
        shop.size(name)


@pytest.mark.parametrize("name", WAYS)
def test_a_direct_call_is_gated_too(shop, name):
    task = shop.app.tasks[name]

    key, holder, held = task("direct", 0.0)

    assert key == "way-direct"
    assert held
    assert ":0" not in holder


def test_a_task_sent_by_name_is_gated(shop):
    sent = shop.app.send_task("way_below", ["by-name", 0.0])

    assert shop.sent(sent).get()[0] == "way-by-name"


def test_canvas_works(shop):
    add, total = shop.app.tasks["add"], shop.app.tasks["total"]

    assert shop.sent(chain(add.s(1, 2), add.s(3), add.s(4)).apply_async()).get() == 10
    assert shop.sent(chord(group(add.s(n, 0) for n in range(5)), total.s()).apply_async()).get() == 10
    assert shop.sent(signature("add", (2, 2), app=shop.app).apply_async()).get() == 4


def test_pydantic_models_and_raw_json_give_one_key(shop):
    sent = shop.app.tasks["ordered"].delay(order={"tenant": "ann", "items": 3})

    assert shop.sent(sent).get() == "order-ann x3"


def test_autoretry_holds_one_slot_an_attempt_and_reschedules_cost_no_retries(shop):
    sent = [shop.send("flaky", 3) for _ in range(4)]  # the default budget is 3 retries

    assert [one.get() for one in sent] == [3] * 4
    for one in sent:
        runs = [line for line in shop.runs.begun("flaky") if line["id"] == one.id]
        assert [line["retries"] for line in runs] == [0, 1, 2, 3]
        assert len({line["token"] for line in runs}) == 4


def test_a_replaced_task_gets_a_slot_of_its_own(shop):
    sent = shop.send("replacing", 3)

    assert sent.get() == 6


def test_a_message_that_does_not_fit_the_key_fails_alone(shop):
    wrong = shop.app.send_task("way_below", [])
    right = shop.send("way_below", "fits", 0.0)
    broken = shop.app.send_task("ordered", kwargs={"order": {"items": 1}})

    assert right.get()[0] == "way-fits"
    for sent in (wrong, broken):
        assert shop.wait_state(shop.sent(sent), "FAILURE")


def test_a_run_learns_that_its_lease_was_lost(shop):
    sent = shop.send("loses", "lease")

    assert sent.get() == "LeaseLost: the lease of"
    wait_until(lambda: shop.size("loses", "lease") == 0)
