"""Celery apps in the test's own process: a worker of one, and none left for the next test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.worker import state

from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks.celery.app import _states
from tests.support.waiting import PATIENCE_S


@contextmanager
def embedded_worker(app: Celery, pool: str, concurrency: int = 1) -> Iterator[None]:
    """A worker of this app in this process, whose logging is then as before."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        with start_worker(app, concurrency, pool, "ERROR", perform_ping_check=False, shutdown_timeout=PATIENCE_S):
            try:
                yield
            finally:
                # The worker looks at this after its next message, and then takes one more. So it need not wait for any.
                ending: Any = state  # the stubs know None alone
                ending.should_terminate = 0
                for _ in range(2):
                    app.control.broadcast("clock")
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


@contextmanager
def forgotten_apps() -> Iterator[None]:
    """What is set up or inited in the block is not there after it: who asks for the only one would be told of two."""
    set_global_runtime(None)
    known = set(_states)
    try:
        yield
    finally:
        set_global_runtime(None)
        for app in set(_states) - known:
            _states.pop(app, None)
