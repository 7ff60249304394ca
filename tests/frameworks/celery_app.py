"""The suite's Celery app. Copied beside its workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery

from cachify_tasks.celery import setup


def make_app(
    tasks: dict[str, Callable[..., Any]], broker: str, store: str, lease_ttl: float, start_method: str = "fork"
) -> Celery:
    is_worker = __name__ == "celery_app"  # beside its module `app`, which a spawned child has to import
    app: Any = Celery("suite", broker=broker, backend=broker, set_as_current=is_worker)
    app.conf.update(
        broker_connection_retry_on_startup=True, worker_hijack_root_logger=False, worker_prefetch_multiplier=8,
        result_expires=300, task_default_queue="suite", worker_pool_start_method=start_method,
        include=["app"] if is_worker else [],
    )  # fmt: skip
    setup(app, url=store, lease_ttl=lease_ttl, start_timeout=1)
    for name, function in tasks.items():
        app.task(name=name, shared=False, acks_late=True, reject_on_worker_lost=True)(function)
    made: Celery = app
    return made
