"""Celery in the suite: workers are processes of their own, over Redis."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks.celery.app import _states, runtime_of
from tests.celery.conftest import silence
from tests.frameworks import celery_app, tasks
from tests.frameworks.driver import Driver, ProcessWorker, RunningWorker
from tests.support.workers import Worker

NAMES = itertools.count()


class RunningCelery(ProcessWorker):
    def __init__(self, worker: Worker, pool: str) -> None:
        super().__init__(worker)
        self.pool = pool

    def owns(self, run: dict[str, Any]) -> bool:
        return bool(run["parent" if self.pool == "prefork" else "pid"] == self.worker.pid)


class CeleryDriver(Driver):
    def __init__(self, folder: Path, lease_ttl: float, pool: str, server_url: str) -> None:
        self.folder = folder
        self.lease_s = lease_ttl
        self.pool = "prefork" if pool == "spawn" else pool
        options: dict[str, Any] = {
            "store": server_url, "broker": server_url.removesuffix("/0") + "/1", "lease_ttl": lease_ttl,
            "start_method": "spawn" if pool == "spawn" else "fork",
        }  # fmt: skip
        for module in (tasks, celery_app):
            assert module.__file__ is not None
            shutil.copy(module.__file__, folder)
        (folder / "app.py").write_text(
            f"from celery_app import make_app\nfrom tasks import TASKS\n\napp = make_app(TASKS, **{options!r})\n"
        )
        self.app: Celery = celery_app.make_app(tasks.TASKS, **options)
        silence(self.app)
        self.store = runtime_of(self.app).store

    @contextmanager
    def worker(self, size: int = 3) -> Iterator[RunningWorker]:
        with Worker(self.folder, pool=self.pool, concurrency=size, name=f"w{next(NAMES)}") as worker:
            yield RunningCelery(worker, self.pool)

    def send(self, task: str, key: str, mode: str = "ok", gate: str = "") -> str:
        return str(self.app.tasks[task].apply_async(args=(key, mode, gate)).id)

    def deliver_again(self, task_id: str) -> None:
        """As kombu restores a message whose visibility timeout is over, though it is still unacknowledged."""
        with redis.Redis.from_url(self.app.conf.broker_url) as client:
            unacked = [json.loads(entry)[0] for entry in client.hvals("unacked")]
            (message,) = [message for message in unacked if message["headers"]["id"] == task_id]
            message["properties"]["delivery_info"]["redelivered"] = True
            client.rpush(self.app.conf.task_default_queue, json.dumps(message))

    def end(self, task_id: str) -> tuple[str, Any]:
        backend: Any = self.app.backend
        meta = backend.get_task_meta(task_id, cache=False)
        return str(meta["status"]), meta["result"]

    def revoke(self, task_id: str) -> None:
        self.app.control.revoke(task_id)

    def close(self) -> None:
        self.app.close()
        backend: Any = self.app.backend
        backend.client.close()
        set_global_runtime(None)
        _states.pop(self.app, None)
