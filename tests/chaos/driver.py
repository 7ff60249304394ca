"""Sends a storm's tasks, starts its workers, harms them, and follows how far the tasks are."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery

from tests.chaos.judge import Fault
from tests.support.processes import is_running, running_descendants
from tests.support.waiting import wait_until
from tests.support.workers import Worker, ended_by_celery

STORM = Path(__file__).parents[1] / "support" / "storm.py"
NAMES = ("a", "b")
STEP_S = 60.0  # without any progress for so long, a storm has got stuck


class Runs:
    """The stamps of a storm, read as they come."""

    def __init__(self, file: Path) -> None:
        self._file, self._at, self._rest = file, 0, b""
        self.lines: list[dict[str, Any]] = []
        self.done: set[str] = set()
        self._open: dict[int, int] = {}

    def read(self) -> int:
        """Read what is new; how many tasks have come to their end."""
        if self._file.exists():
            with self._file.open("rb") as file:
                file.seek(self._at)
                data = file.read()
            self._at += len(data)
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in map(json.loads, whole):
                self.lines.append(line)
                if line["event"] == "begin":
                    self._open[line["pid"]] = line["main"]
                elif line["event"] == "end":
                    self._open.pop(line["pid"])
                    self.done.add(line["id"])
        return len(self.done)

    def running(self) -> list[tuple[int, int]]:
        """The processes that live and are in a run: their pids, and those of their workers."""
        self.read()
        return [(pid, main) for pid, main in self._open.items() if is_running(pid)]


@dataclass
class Sender:
    """Sends the tasks and knows them by their ids."""

    app: Celery
    keys: int
    limit: int | None = None  # of every key; None: 1 to 4, in turn
    sent: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    pause: threading.Lock = field(default_factory=threading.Lock)  # held: nothing is being sent

    def send(self, count: int, seconds: tuple[float, float], burst: int) -> None:
        """So many, in bursts of one key, so that pools are full and tasks are parked."""
        while count:
            key = self.dice.randrange(self.keys)
            size = min(self.dice.randint(1, burst), count)
            count -= size
            with self.pause, self.app.producer_pool.acquire(block=True) as producer:
                for _ in range(size):
                    limit = self.limit or key % 4 + 1
                    self.one(f"limit{limit}", f"key-{key}", round(self.dice.uniform(*seconds), 4), producer)

    @contextmanager
    def sending(self, count: int, seconds: tuple[float, float], burst: int) -> Iterator[None]:
        """`send` in a thread of its own; half is sent when the block begins, and all when it has ended."""
        half = len(self.sent) + count // 2
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(self.send, count, seconds, burst)
            wait_until(lambda: len(self.sent) >= half, STEP_S, "tasks are sent")
            yield
            done.result(STEP_S)

    def one(self, name: str, key: str, seconds: float, producer: Any = None) -> None:
        result = self.app.send_task(name, (key, seconds), producer=producer, ignore_result=True)
        self.sent[result.id] = name, key, seconds


class Fleet:
    """Two workers that are started again when they have been killed."""

    def __init__(self, folder: Path, *, concurrency: int = 4, names: tuple[str, ...] = NAMES, prefetch: int = 4):
        args = [f"--prefetch-multiplier={prefetch}"]
        self.runs, self.faults = Runs(folder / "runs.jsonl"), list[Fault]()
        self.workers = [Worker(folder, concurrency=concurrency, name=name, args=args) for name in names]
        self._dice = random.Random(11)
        self._former: list[int] = []  # pids of workers that were killed, which are their process groups

    def start(self) -> None:
        for worker in self.workers:
            worker.start(ready=False)

    def stop(self) -> None:
        """A warm shutdown; every worker ends by itself and well."""
        for worker in self.workers:
            worker.kill(signal.SIGTERM)
        for worker in self.workers:
            assert worker.wait_ended(60) == 0

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
        for group in self._former:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def wait_done(self, count: int) -> None:
        """Until so many tasks have come to their end; fails if nothing moves any more."""
        until, last = time.monotonic() + STEP_S, 0
        while (now := self.runs.read()) < count:
            self.revive()
            if len(self.runs.lines) > last:
                until, last = time.monotonic() + STEP_S, len(self.runs.lines)
            assert time.monotonic() < until, f"stuck at {now} of {count} tasks"
            time.sleep(0.05)

    def kill_worker(self) -> None:
        """SIGKILL to the main process of a worker that is running tasks; then another one is started in its place."""
        worker = self._busy()[0]
        self._harm("worker", worker.pid, signal.SIGKILL)
        worker.wait_ended()
        self._former.append(worker.pid)
        worker.start(ready=False)

    def revive(self) -> None:
        """Start the workers again that Celery itself has ended."""
        for worker in self.workers:
            if worker.exit_code is not None:
                assert ended_by_celery(worker.logs()), f"{worker.name} ended with {worker.exit_code}"
                self.faults.append(Fault("ended", worker.pid, time.monotonic()))
                self._former.append(worker.pid)
                worker.start(ready=False)

    def said(self, words: str) -> list[str]:
        """The lines of the workers' logs with these words."""
        return [line for worker in self.workers for line in worker.logs().splitlines() if words in line]

    def let_go(self) -> set[str]:
        """The tasks whose jobs Celery has thrown away with the connection to its broker."""
        lines = self.said("was let go with its connection")
        return {line.rpartition("[")[2].partition("]")[0] for line in lines}

    def kill_child(self) -> None:
        """SIGKILL to a process in the middle of a task."""
        self._harm("child", self._busy()[1], signal.SIGKILL)

    def stop_worker(self, seconds: float) -> None:
        """SIGSTOP to all processes of a worker, and SIGCONT after that time."""
        worker = self._busy()[0]
        pids = [worker.pid, *running_descendants(worker.pid)]
        for pid in pids:
            self._harm("stop", pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in pids:
            with suppress(ProcessLookupError):  # it had been killed before, and its parent knows now
                os.kill(pid, signal.SIGCONT)

    def _busy(self) -> tuple[Worker, int]:
        """A worker that runs a task, and the pid of the process that does."""

        def found() -> tuple[Worker, int] | None:
            self.revive()
            running = self.runs.running()
            pairs = [(worker, pid) for worker in self.workers for pid, main in running if main == worker.pid]
            return self._dice.choice(pairs) if pairs else None

        return wait_until(found, STEP_S, "a worker runs a task")  # type: ignore[return-value]  # wait_until: not None

    def _harm(self, kind: str, pid: int, sig: int) -> None:
        self.faults.append(Fault(kind, pid, time.monotonic()))
        with suppress(ProcessLookupError):  # one that was killed a moment ago
            os.kill(pid, sig)


def write_storm(folder: Path, **options: Any) -> None:
    """Put the storm's app into this folder."""
    shutil.copy(STORM, folder / "storm.py")
    (folder / "app.py").write_text(f"from storm import make_app\n\napp = make_app(**{options!r})\n")


def sender_app(broker: str, queue: str, **conf: Any) -> Celery:
    """An app that only sends."""
    app = Celery("sender", broker=broker, set_as_current=False)
    app.conf.update(task_default_queue=queue, **conf)
    return app


@contextmanager
def fleet(folder: Path, **options: Any) -> Iterator[Fleet]:
    """Started workers; all are gone in the end."""
    made = Fleet(folder, **options)
    try:
        made.start()
        yield made
    except BaseException:
        for worker in made.workers:
            print(f"--- log of {worker.name}\n{worker.logs()[-6000:]}")  # noqa: T201  # shown with the failure
        raise
    finally:
        made.end()
