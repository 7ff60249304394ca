"""Celery workers in processes of their own, for a test or for a module of tests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.processes import is_running
from tests.support.waiting import PATIENCE_S, wait_until

SHOP = Path(__file__).with_name("shop.py")


def write_app(folder: Path, **options: Any) -> None:
    """Put an `app` module with the app of the tests into this folder."""
    shutil.copy(SHOP, folder / "shop.py")
    (folder / "app.py").write_text(f"from shop import make_app\n\napp = make_app(**{options!r})\n")


def ended_by_celery(log: str) -> bool:
    """Has a worker with this log been ended by Celery 5.7 itself, and not by us?

    One that loses its Redis while it holds messages closes the connection twice, and what the first time has taken
    apart fails at the second.
    """
    return "AttributeError: 'NoneType' object has no attribute 'hostname'" in log[-3000:]


class Worker:
    """A worker whose code is in `folder`, module `app`; all its processes end with the `with` block."""

    ready_line = " ready."  # in its log

    def __init__(
        self, folder: Path, *, pool: str = "prefork", concurrency: int = 2, name: str = "w", args: Iterable[str] = ()
    ) -> None:
        self.folder, self.name = folder, name
        self.log = folder / f"{name}.log"
        self._command = [
            sys.executable, "-m", "celery", "-A", "app", "worker", "-P", pool, "-c", str(concurrency), "-l", "INFO",
            "-n", f"{name}@test", "--without-gossip", "--without-mingle", "--without-heartbeat", *args,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> Self:
        env = {**os.environ, "SHOP_RUNS": str(self.folder / "runs.jsonl"), "PYTHONUNBUFFERED": "1"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True
            )
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        wait_until(self._is_ready, PATIENCE_S, f"{self.name} is ready")

    def _is_ready(self) -> bool:
        if self.exit_code is not None:
            raise AssertionError(f"the worker ended with {self.exit_code}:\n{self.logs()}")
        return self.ready_line in self.logs()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def logs(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Send a signal to the main process."""
        os.kill(self.pid, sig)

    def wait_ended(self, timeout: float = PATIENCE_S) -> int:
        wait_until(lambda: self.exit_code is not None, timeout, f"{self.name} has ended")
        assert self.exit_code is not None
        return self.exit_code

    def end(self) -> None:
        """Kill what is left."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None:
            print(f"--- log of {self.name}\n{self.logs()[-6000:]}")  # noqa: T201  # shown with the failure
        self.end()


@contextlib.contextmanager
def together(*workers: Worker) -> Iterator[tuple[Worker, ...]]:
    """These workers, started at the same time; all are ready in the block."""
    with contextlib.ExitStack() as started:
        for worker in workers:
            worker.start(ready=False)
            started.enter_context(worker)
        for worker in workers:
            worker.wait_ready()
        yield workers


class Runs:
    """What the tasks in a folder have stamped."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "runs.jsonl"

    def all(self, key: str | None = None) -> list[dict[str, Any]]:
        # What follows the last line end is being written.
        lines = self._file.read_text().split("\n")[:-1] if self._file.exists() else []
        return [line for line in map(json.loads, lines) if key in (None, line["key"])]

    def begun(self, key: str | None = None) -> list[dict[str, Any]]:
        return [line for line in self.all(key) if line["event"] == "begin"]

    def wait_begun(self, key: str, count: int = 1, timeout: float = PATIENCE_S) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.begun(key)) >= count, timeout, f"{count} runs of {key}")
        return self.begun(key)

    def peak(self, key: str, *, killed_at: float | None = None) -> int:
        """How many ran at once at most. A run without an end ended when it was killed."""
        now = peak = 0
        lines = self.all(key)
        ended = Counter(line["id"] for line in lines if line["event"] == "end")
        begun = Counter(line["id"] for line in lines if line["event"] == "begin")
        events = [(line["t"], 1 if line["event"] == "begin" else -1) for line in lines]
        for missing in (begun - ended).values():
            assert killed_at is not None, f"runs of {key} have no end"
            events += [(killed_at, -1)] * missing
        for _, change in sorted(events):
            now += change
            peak = max(peak, now)
        return peak


def open_gate(folder: Path, name: str) -> None:
    """Let the tasks go on that wait for this file."""
    (folder / name).touch()


def gone(pids: Iterable[int]) -> bool:
    return not any(is_running(pid) for pid in pids)
