"""Limits and strategies are the same in every framework."""

import time
from functools import partial

import pytest

from tests.support.waiting import wait_until

ANSWERS = {
    "raise": "CachifyPoolFullError", "drop": None, "drop_with": 7, "again": "ok done", "cached": -1,
    "called": ["called", "key", "ok"], "none": None,
}  # fmt: skip


def expected(running, strategy, key):
    answer = running.dropped if strategy == "drop" else ANSWERS[strategy]
    return ["called", key, "ok"] if isinstance(answer, list) else answer


def test_no_more_than_the_limit_run_at_once_and_none_is_lost(running):
    sent = [running.send("two", "limit", "busy") for _ in range(20)]

    assert [running.result(one) for one in sent] == ["busy done"] * 20
    assert running.runs.peak("limit") == 2
    assert sorted(running.ids("limit")) == sorted(sent)
    running.wait_quiet("limit")


@pytest.mark.parametrize("strategy", ANSWERS)
def test_a_task_that_finds_its_pool_full_does_what_its_strategy_says(running, strategy):
    key = f"full-{strategy}"
    held, gate = running.hold(key)

    sent = running.send(strategy, key)
    if strategy == "again":
        running.wait_deferred(sent)
        running.open(gate)

    assert running.result(sent) == expected(running, strategy, key)
    running.open(gate)
    assert running.result(held) == "ok done"
    assert running.ids(key) == ([held, sent] if strategy == "again" else [held])
    running.wait_quiet(key)


def test_a_fallback_is_the_last_result_of_the_same_call(running):
    key = "fallback"
    assert running.result(running.send("cached", key)) == "ok done"
    _, gate = running.hold(key)

    assert running.result(running.send("cached", key)) == "ok done"
    assert running.result(running.send("cached", key, "other")) == -1
    running.open(gate)
    running.wait_quiet(key)


@pytest.mark.parametrize("then", [name for name in ANSWERS if name != "none"])
def test_a_task_beyond_max_parked_meets_the_other_strategy(running, then):
    key = f"few-{then}"
    _, gate = running.hold(key)
    waits = running.park(key, task=f"few_{then}")

    beyond = running.send(f"few_{then}", key)
    if then == "again":
        running.wait_deferred(beyond)
        running.open(gate)

    assert running.result(beyond) == expected(running, then, key)
    running.open(gate)
    assert running.result(waits) == "ok done"
    running.wait_quiet(key)


@pytest.mark.parametrize("then", [name for name in ANSWERS if name != "none"])
def test_a_task_that_waited_longer_than_max_age_meets_the_other_strategy(running, then):
    key = f"old-{then}"
    held, gate = running.hold(key)
    old = running.park(key, task=f"old_{then}")
    parked = time.monotonic()
    wait_until(partial(is_past, parked + 0.4))

    running.open(gate)

    assert running.result(old) == expected(running, then, key)
    assert running.ids(key) == ([held, old] if then == "again" else [held])
    running.wait_quiet(key)


def is_past(moment):
    return time.monotonic() > moment


def test_parked_tasks_run_once_each_in_the_order_in_which_they_were_parked(running):
    held, gate = running.hold("order")
    sent = [running.park("order") for _ in range(8)]

    running.open(gate)

    assert [running.result(one) for one in sent] == ["ok done"] * 8
    assert running.ids("order") == [held, *sent]
    assert running.runs.peak("order") == 1
    running.wait_quiet("order")


def test_a_second_delivery_stands_by_and_does_not_run(running):
    held, gate = running.hold("twice")

    running.deliver_again(held)
    wait_until(lambda: running.has_ticket("twice", held))
    running.open(gate)

    assert running.result(held) == "ok done"
    running.wait_quiet("twice")
    assert not running.has_ticket("twice", held)
    assert running.ids("twice") == [held]


def test_a_parked_task_that_is_revoked_does_not_run_and_the_next_one_does(running):
    if not running.revokes:
        pytest.skip("the framework revokes nothing")
    held, gate = running.hold("revoke")
    revoked, following = running.park("revoke"), running.park("revoke")

    running.revoke(revoked)
    running.open(gate)

    assert running.wait_state(revoked, "REVOKED")
    assert running.result(following) == "ok done"
    assert running.ids("revoke") == [held, following]
    running.wait_quiet("revoke")
