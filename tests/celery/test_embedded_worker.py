"""A worker in the test's own process, with the memory of that process as its store."""

from typing import Any

from celery import signals

from cachify_tasks import pool
from tests.support.waiting import PATIENCE_S, wait_until


def test_a_task_runs_when_its_pool_is_free(embedded_app):
    with pool("add", max_size=1):
        sent = embedded_app.tasks["add"].delay(1, 2)
        wait_until(lambda: sent.state == "RETRY")

    assert sent.get(timeout=PATIENCE_S) == 3


def test_a_result_backend_that_fails_makes_no_second_copy(embedded_app, monkeypatch):
    published, failed = [], []

    def fails(*args: Any, **kwargs: Any) -> None:
        failed.append(args)
        raise ConnectionError("the backend is down")

    def count(sender: str, **_: Any) -> None:
        published.append(sender)

    task = embedded_app.tasks["add"]
    monkeypatch.setattr(type(task.backend), "mark_as_retry", fails)  # each thread has a backend of its own
    signals.before_task_publish.connect(count)
    try:
        with pool("add", max_size=1):
            sent = task.delay(1, 2)
            wait_until(lambda: len(failed) >= 3)

        assert sent.get(timeout=PATIENCE_S) == 3
        wait_until(lambda: len(published) == 1 + len(failed))  # a thread publishes first, and then fails
    finally:
        signals.before_task_publish.disconnect(count)
