"""A worker in the test's own process, with the memory of that process as its store."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery import signals
from celery.contrib.testing.worker import start_worker

from cachify_tasks import pool
from cachify_tasks._io.engine import set_global_engine
from cachify_tasks.celery.app import _states
from tests.support.shop import make_app
from tests.support.waiting import wait_until


@pytest.fixture(params=["solo", "threads"])
def app(request) -> Iterator[Any]:
    app: Any = make_app("memory://", "cache+memory://", "memory://")
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        with start_worker(app, pool=request.param, perform_ping_check=False, loglevel="ERROR"):
            yield app
    finally:  # the worker has set the program's logging up
        root.setLevel(level)
        root.handlers[:] = handlers
    _states.pop(app, None)
    set_global_engine(None)


def test_a_task_runs_when_its_pool_is_free(app):
    with pool("add", max_size=1):
        sent = app.tasks["add"].delay(1, 2)
        wait_until(lambda: sent.state == "RETRY")

    assert sent.get(timeout=5) == 3


def test_a_result_backend_that_fails_makes_no_second_copy(app, monkeypatch):
    published, failed = [], []

    def fails(*args: Any, **kwargs: Any) -> None:
        failed.append(args)
        raise ConnectionError("the backend is down")

    def count(sender: str, **_: Any) -> None:
        published.append(sender)

    task = app.tasks["add"]
    monkeypatch.setattr(type(task.backend), "mark_as_retry", fails)  # each thread has a backend of its own
    signals.before_task_publish.connect(count)
    try:
        with pool("add", max_size=1):
            sent = task.delay(1, 2)
            wait_until(lambda: len(failed) >= 3)

        assert sent.get(timeout=5) == 3
        assert len(published) == 1 + len(failed)
    finally:
        signals.before_task_publish.disconnect(count)
