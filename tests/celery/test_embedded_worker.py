"""A worker in the test's own process, with the memory of that process as its store."""

from typing import Any

from cachify_tasks import pool
from cachify_tasks.celery import outcomes
from cachify_tasks.celery.publishing import send_again
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

    def counted(*args: Any) -> None:
        published.append(args)
        send_again(*args)

    task = embedded_app.tasks["add"]
    monkeypatch.setattr(type(task.backend), "mark_as_retry", fails)  # each thread has a backend of its own
    monkeypatch.setattr(outcomes, "send_again", counted)

    with pool("add", max_size=1):
        sent = task.delay(1, 2)
        wait_until(lambda: len(failed) >= 3)

    assert sent.get(timeout=PATIENCE_S) == 3
    wait_until(lambda: len(published) == len(failed))  # a thread publishes first, and then fails
