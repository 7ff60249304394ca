"""Starts a Redis and a Celery worker for the examples. In your project both run already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery

from cachify_tasks.demo.worker import Worker, forget_urls
from cachify_tasks.testing.server import EmbeddedServer


@contextmanager
def server_and_worker(app: Celery, *, folder: Path = Path(__file__).parent, concurrency: int = 4) -> Iterator[None]:
    """Inside the block, the app has a server and a worker of its own. The app's name must be that of its module."""
    forget_urls()
    with EmbeddedServer() as server:
        app.conf.update(broker_url=server.url, result_backend=server.url)
        with Worker(app.main, server.url, concurrency=concurrency, folder=folder) as worker:
            while not app.control.ping(timeout=0.2):
                worker.check()
            yield
