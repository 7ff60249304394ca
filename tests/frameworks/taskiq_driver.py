"""Taskiq in the suite: workers are processes of their own, over a Redis stream."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks.taskiq import CachifyMiddleware
from tests.frameworks import taskiq_app, tasks
from tests.frameworks.driver import Driver, ProcessWorker, RunningWorker
from tests.support.waiting import PATIENCE_S, wait_until
from tests.support.workers import Worker

NAMES = itertools.count()


class TaskiqWorker(Worker):
    """Its main process runs no tasks: it looks after one that does."""

    ready_line = "Listening started."

    def __init__(self, folder: Path, size: int, name: str) -> None:
        super().__init__(folder, name=name)
        self._command = [
            sys.executable, "-m", "taskiq", "worker", "app:broker", "--workers", "1",
            "--max-async-tasks", str(size), "--max-threadpool-threads", str(size),
        ]  # fmt: skip

    def kill(self, sig: int = signal.SIGKILL) -> None:
        os.killpg(self.pid, sig) if sig != signal.SIGTERM else os.kill(self.pid, sig)


class RunningTaskiq(ProcessWorker):
    def owns(self, run: dict[str, Any]) -> bool:
        return bool(run["parent"] == self.worker.pid)

    def shut_down(self) -> None:
        super().shut_down()
        wait_until(lambda: "Stopping prefetching messages" in self.worker.logs(), PATIENCE_S)


class TaskiqDriver(Driver):
    dropped = "CachifyPoolFullError"
    shows_retries = False
    revokes = False

    def __init__(self, folder: Path, lease_ttl: float, server_url: str) -> None:
        self.folder = folder
        self.lease_s = lease_ttl
        self.url = server_url
        for module in (tasks, taskiq_app):
            assert module.__file__ is not None
            shutil.copy(module.__file__, folder)
        (folder / "app.py").write_text(
            "from taskiq_app import make_broker\nfrom tasks import TASKS\n\n"
            f"broker = make_broker(TASKS, {server_url!r}, {lease_ttl!r})\n"
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.broker: Any = taskiq_app.make_broker(tasks.TASKS, server_url, lease_ttl)
        (middleware,) = self.broker.middlewares
        assert isinstance(middleware, CachifyMiddleware)
        self.store = middleware.runtime.store
        self._wait(self.broker.startup())

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @contextmanager
    def worker(self, size: int = 3) -> Iterator[RunningWorker]:
        with TaskiqWorker(self.folder, size, f"w{next(NAMES)}") as worker:
            yield RunningTaskiq(worker)

    def send(self, task: str, key: str, mode: str = "ok", gate: str = "") -> str:
        return str(self._wait(self.broker.find_task(task).kiq(key, mode, gate)).task_id)

    def deliver_again(self, task_id: str) -> None:
        with redis.Redis.from_url(self.url) as client:
            entries: Any = client.xrange("suite")
            (data,) = [fields[b"data"] for _, fields in entries if task_id.encode() in fields[b"data"]]
            client.xadd("suite", {"data": data})

    def end(self, task_id: str) -> tuple[str, Any]:
        end: tuple[str, Any] = self._wait(self._end(task_id))
        return end

    async def _end(self, task_id: str) -> tuple[str, Any]:
        backend = self.broker.result_backend
        if not await backend.is_result_ready(task_id):
            return "PENDING", None
        result = await backend.get_result(task_id)
        return ("FAILURE", result.error) if result.is_err else ("SUCCESS", result.return_value)

    def close(self) -> None:
        self._wait(self.broker.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.store.close()
        set_global_runtime(None)
