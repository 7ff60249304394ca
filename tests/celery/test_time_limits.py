"""What a worker says at its start of time limits that its pool does not enforce."""

import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency import gevent, prefork, solo, thread

from cachify_tasks import pooled
from cachify_tasks.celery.time_limits import logger, warn_of_unenforced_limits
from tests.support.apps import embedded_worker
from tests.support.shop import make_app
from tests.support.waiting import PATIENCE_S

POOLS = {"threads": thread.TaskPool, "solo": solo.TaskPool, "gevent": gevent.TaskPool, "prefork": prefork.TaskPool}
BOTH = "does not enforce hard and soft time limits, and tasks with a slot have them: "


def task(name, hard=None, soft=None):
    return SimpleNamespace(name=name, time_limit=hard, soft_time_limit=soft)


def lines(caplog, pool, *tasks, hard=None, soft=None):
    worker = SimpleNamespace(pool_cls=POOLS[pool], time_limit=hard, soft_time_limit=soft)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_of_unenforced_limits(worker, tasks)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_pool_without_limits_names_both_kinds_and_the_tasks(caplog, pool):
    found = lines(caplog, pool, task("b", hard=5), task("a", soft=3), task("free"))

    assert found == [f"the pool {pool} {BOTH}a, b; one that hangs keeps its slot"]


def test_gevent_enforces_the_hard_limit_only(caplog):
    found = lines(caplog, "gevent", task("hard", hard=5), task("soft", soft=3), task("both", hard=5, soft=3))

    assert found == [
        "the pool gevent does not enforce soft time limits, and tasks with a slot have them: both, soft; one that "
        "hangs keeps its slot"
    ]
    assert lines(caplog, "gevent", task("hard", hard=5)) == []


def test_prefork_enforces_both(caplog):
    assert lines(caplog, "prefork", task("both", hard=5, soft=3), hard=7, soft=6) == []


def test_limits_of_all_tasks_count_and_many_tasks_are_counted(caplog):
    (line,) = lines(caplog, "threads", *(task(f"t{n}") for n in range(7)), hard=9)

    assert "does not enforce hard time limits, and tasks with a slot have them: t0, t1, t2 and 4 more;" in line


def test_without_limits_nothing_is_said(caplog):
    assert lines(caplog, "threads", task("a"), task("b")) == []


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_worker_says_so_when_it_starts_and_the_limit_is_not_enforced(caplog, pool):
    app: Any = make_app("memory://", "cache+memory://", "memory://")

    @app.task(shared=False, name="limited", time_limit=0.05, soft_time_limit=0.02)
    @pooled("limited", max_size=1)
    def limited():
        time.sleep(0.2)  # longer than both limits
        return "ran on"

    with caplog.at_level(logging.WARNING, logger.name), embedded_worker(app, pool):
        assert limited.delay().get(timeout=PATIENCE_S) == "ran on"

    said = [record.getMessage() for record in caplog.records if "does not enforce" in record.getMessage()]
    assert said == [f"the pool {pool} {BOTH}limited; one that hangs keeps its slot"]
