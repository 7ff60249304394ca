"""What the suite asks of a framework. A new framework adds a driver, and its name to `conftest.DRIVERS`."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cachify_tasks._core.commands import Find, Inspect
from tests.support.waiting import PATIENCE_S, wait_until
from tests.support.workers import Runs, Worker

ENDED = ("SUCCESS", "FAILURE", "REVOKED")


class RunningWorker(ABC):
    """A worker that a test has started."""

    @abstractmethod
    def owns(self, run: dict[str, Any]) -> bool:
        """Was this run, as `tasks.stamp` describes it, in this worker?"""

    @abstractmethod
    def kill(self) -> None:
        """It reports nothing any more."""

    @abstractmethod
    def stall(self) -> None:
        """It renews no leases until `resume`; what it runs goes on, or goes on then."""

    @abstractmethod
    def resume(self) -> None:
        """It is itself again."""

    @abstractmethod
    def shut_down(self) -> None:
        """Begin a warm shutdown: what runs may end, nothing new begins."""


class ProcessWorker(RunningWorker):
    """One that is a process of its own."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def kill(self) -> None:
        self.worker.kill()
        self.worker.wait_ended()

    def stall(self) -> None:
        self.worker.kill(signal.SIGSTOP)

    def resume(self) -> None:
        self.worker.kill(signal.SIGCONT)

    def shut_down(self) -> None:
        self.worker.kill(signal.SIGTERM)


class Driver(ABC):
    """One framework with the tasks of `tasks.TASKS`, a store and a broker of its own; they are acknowledged late."""

    folder: Path
    store: Any
    lease_s: float
    dropped = "REVOKED"  # what `result` says of a task that was dropped
    shows_retries = True  # is a rescheduled task in the state RETRY?
    revokes = True  # can a task be revoked?

    @abstractmethod
    def worker(self, size: int = 3) -> AbstractContextManager[RunningWorker]:
        """Start a worker with so many processes or threads, which ends with the block."""

    @abstractmethod
    def send(self, task: str, key: str, mode: str = "ok", gate: str = "") -> str:
        """Send a task; its id."""

    @abstractmethod
    def deliver_again(self, task_id: str) -> None:
        """The broker delivers the message of this running task once more."""

    @abstractmethod
    def end(self, task_id: str) -> tuple[str, Any]:
        """The task's state (one of ENDED, "RETRY", or another) and its result or error."""

    def revoke(self, task_id: str) -> None:
        """Ask all workers not to run it."""
        raise NotImplementedError("the framework has nothing of the kind")

    @property
    def runs(self) -> Runs:
        return Runs(self.folder)

    def gate(self, name: str) -> str:
        """A file for which a task waits."""
        return str(self.folder / name)

    def open(self, gate: str) -> None:
        Path(gate).touch()

    def state(self, task_id: str) -> str:
        return self.end(task_id)[0]

    def wait_state(self, task_id: str, *states: str) -> str:
        wait_until(lambda: self.state(task_id) in states, PATIENCE_S, f"{states} of {task_id}")
        return self.state(task_id)

    def wait_deferred(self, task_id: str) -> None:
        """Until it has found its pool full and is to come again, where the framework shows that."""
        if self.shows_retries:
            self.wait_state(task_id, "RETRY")

    def result(self, task_id: str) -> Any:
        """Its result, or the name of its error's type, when it has ended; its state if it was revoked."""
        state = self.wait_state(task_id, *ENDED)
        result = self.end(task_id)[1]
        if state == "REVOKED":
            return state
        return type(result).__name__ if isinstance(result, BaseException) else result

    def hold(self, key: str, mode: str = "ok") -> tuple[str, str]:
        """A task that holds the pool's only slot; its id, and the gate for which it waits."""
        gate = self.gate(f"{key}.go")
        held = self.send("park", key, mode, gate)
        self.runs.wait_begun(key)
        return held, gate

    def park(self, key: str, *, task: str = "park", gate: str = "") -> str:
        """Send a task and return when it is parked."""
        waiting = self.parked(key)
        sent = self.send(task, key, "ok", gate)
        wait_until(lambda: self.parked(key) == waiting + 1, PATIENCE_S, f"{task} is parked in {key}")
        return sent

    def parked(self, key: str) -> int:
        return int(self.store.execute(Inspect(key)).waiting)

    def held(self, key: str) -> int:
        return len(self.store.execute(Inspect(key)).holders)

    def has_ticket(self, key: str, task_id: str) -> bool:
        """Does the store keep the message of this task?"""
        return bool(self.store.execute(Find(key, (task_id,))))

    def wait_quiet(self, key: str) -> None:
        """Until the pool has neither holders nor parked tasks."""
        wait_until(lambda: (self.held(key), self.parked(key)) == (0, 0), PATIENCE_S, f"nothing in {key}")

    def ids(self, key: str) -> list[str]:
        """Of the runs in this pool, in the order in which they began."""
        return [run["id"] for run in self.runs.begun(key)]
