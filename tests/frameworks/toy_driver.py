"""The toy task runner in the suite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from cachify_tasks._runtime.runtime import Runtime
from cachify_tasks._store.memory_store import MemoryStore
from cachify_tasks.settings import Settings
from tests.frameworks.driver import Driver, RunningWorker
from tests.frameworks.tasks import TASKS
from tests.toy.runner import Toy, ToyWorker


class RunningToy(RunningWorker):
    def __init__(self, worker: ToyWorker) -> None:
        self.worker = worker

    def owns(self, run: dict[str, Any]) -> bool:
        return run["thread"] in [thread.ident for thread in self.worker.threads]

    def kill(self) -> None:
        self.worker.stop(kill=True)

    def stall(self) -> None:
        self.worker.core.slots.slots = list  # type: ignore[method-assign]  # the lease renewer finds none

    def resume(self) -> None:
        """What it holds by now is not its own any more."""

    def shut_down(self) -> None:
        self.worker.stop()


class ToyDriver(Driver):
    def __init__(self, folder: Path, lease_ttl: float) -> None:
        self.folder = folder
        self.lease_s = lease_ttl
        self.store = MemoryStore()
        runtime = Runtime(self.store, Settings(lease_ttl=lease_ttl, start_timeout=1))
        self.sent: dict[str, dict[str, Any]] = {}
        self.toy = Toy(runtime, TASKS, [], {}, set())

    @contextmanager
    def worker(self, size: int = 3) -> Iterator[RunningWorker]:
        worker = ToyWorker(self.toy, size)
        try:
            yield RunningToy(worker)
        finally:
            if not worker.dead:
                worker.stop()
                for thread in worker.threads:
                    thread.join()

    def send(self, task: str, key: str, mode: str = "ok", gate: str = "") -> str:
        message = {"id": uuid4().hex, "task": task, "args": [key, mode, gate]}
        self.sent[str(message["id"])] = message
        self.toy.messages.append(message)
        return str(message["id"])

    def deliver_again(self, task_id: str) -> None:
        self.toy.messages.append(self.sent[task_id])

    def end(self, task_id: str) -> tuple[str, Any]:
        return self.toy.ends.get(task_id, ("PENDING", None))

    def revoke(self, task_id: str) -> None:
        self.toy.revoked.add(task_id)
