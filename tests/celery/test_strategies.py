"""What a task does that finds its pool full, on a prefork worker."""

import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError

from cachify_tasks import CachifyPoolFullError
from tests.celery.conftest import Shop
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def shared(make_shared_shop) -> Iterator[Shop]:
    shop = make_shared_shop(cachify_default_on_full="drop")
    with shop.worker(concurrency=3) as worker:
        shop.worker_log = worker.logs
        yield shop


@pytest.fixture
def shop(shared) -> Iterator[Shop]:
    """The pool `busy` is full until the gate is opened, at the end of the test at the latest."""
    gate = f"busy-{os.urandom(4).hex()}"
    holder = shared.send("busy", gate)
    wait_until(lambda: shared.size("busy") == 1)
    shared.free = lambda: shared.open(gate)
    yield shared
    shared.free()
    assert holder.get() == "ok done"
    wait_until(lambda: shared.size("busy") == 0)


@pytest.mark.parametrize("name", ["raises", "strict", "gives_up"])
def test_a_task_fails_with_the_facts_of_the_full_pool(shop, name):
    sent = shop.send(name, 1)

    with pytest.raises(CachifyPoolFullError, match="pool 'busy' is full: 1 of 1 slots are taken") as raised:
        sent.get()
    assert (raised.value.key, raised.value.limit, raised.value.held) == ("busy", 1, 1)
    assert sent.state == "FAILURE"


def test_the_error_of_a_strategy_is_its_tasks_alone(shop):
    with pytest.raises(ZeroDivisionError, match="asked about busy"):
        shop.send("rude", 1).get()


def test_a_dropped_task_is_revoked(shop):
    sent = shop.send("drops", 1)

    with pytest.raises(TaskRevokedError, match="pool 'busy' is full"):
        sent.get()
    assert sent.state == "REVOKED"


@pytest.mark.parametrize(("name", "result"), [("drops_with", 7), ("gives_up_7", 7), ("none", None), ("falls_back", -1)])
def test_a_task_succeeds_with_the_result_of_its_strategy(shop, name, result):
    sent = shop.send(name, 1)

    assert sent.get() == result
    assert sent.state == "SUCCESS"


def test_a_task_without_on_full_does_what_default_on_full_says(shop):
    assert shop.wait_state(shop.send("defaulted", 1), "REVOKED")


def test_a_callable_gets_exactly_the_arguments_of_the_call_and_runs_in_the_child(shop):
    sent = shop.send("calls", 1, kwargs={"b": 2})

    args, kwargs, pid = sent.get()
    assert (args, kwargs) == ([1], {"b": 2})
    stats = shop.app.control.inspect(["w@test"], timeout=5).stats()
    assert pid in stats["w@test"]["pool"]["processes"]


def test_a_rescheduled_task_shows_retry_and_keeps_id_and_retries(shop):
    sent = shop.send("busy", "", task_id="kept")
    assert shop.wait_state(sent, "RETRY")

    shop.free()

    assert sent.get() == "ok done"
    (run,) = [line for line in shop.runs.begun("busy") if line["id"] == "kept"]
    assert run["retries"] == 0
    assert run["holder"].startswith("kept:0#")


def test_chain_and_group_and_chord_wait_for_rescheduled_members(shop):
    chained = chain(shop.app.tasks["busy"].s(""), shop.app.tasks["add"].si(2, 2)).apply_async()
    whole = chord(group(shop.app.tasks["add"].s(n, n) for n in range(6)), shop.app.tasks["total"].s()).apply_async()

    shop.free()

    assert shop.sent(whole).get() == 30
    assert shop.sent(chained).get() == 4


def test_chord_and_chain_learn_of_a_dropped_member(shop):
    tasks = shop.app.tasks
    whole = chord([tasks["add"].s(1, 1), tasks["drops"].s(1)], tasks["total"].s()).apply_async()
    chained = chain(tasks["drops"].s(1), tasks["total"].s()).apply_async()

    assert shop.wait_state(shop.sent(whole), "FAILURE")
    assert shop.wait_state(shop.sent(chained), "REVOKED", "FAILURE")


def test_a_chord_gets_the_result_of_a_dropped_member(shop):
    tasks = shop.app.tasks
    whole = chord([tasks["add"].s(1, 1), tasks["drops_with"].s(1)], tasks["total"].s()).apply_async()

    assert shop.sent(whole).get() == 9


def test_the_log_names_a_full_pool_once_in_ten_seconds(shop):
    for sent in [shop.send("raises", n) for n in range(20)]:
        shop.wait_state(sent, "FAILURE")

    told = re.findall(r"^\[(.+): \w+/(\w.*)\] pool 'busy' is full \(limit 1\)", shop.worker_log(), re.MULTILINE)
    assert told
    for process in {name for _, name in told}:
        times = [datetime.fromisoformat(time) for time, name in told if name == process]
        assert all(later - earlier > timedelta(seconds=5) for earlier, later in pairwise(times))


def test_a_task_with_on_full_none_is_warned_of_when_the_worker_starts(shop):
    assert "none has on_full=None: when its pool is full it is dropped" in shop.worker_log()
