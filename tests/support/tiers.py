"""Which tests start worker processes and which take seconds by nature: `make test-fast` leaves out both.

A test starts worker processes if it uses the fixture `worker_processes`, by itself or through another fixture such as
`make_shop`, if it lies in one of `WORKER_PLACES`, whose programs start workers of their own, or if it is one of
tests/frameworks and does not run on the toy. Such a test gets the marker `worker`. While any other test runs,
`WorkerGuard` refuses to start a worker, so the marker cannot be forgotten.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

FIXTURE = "worker_processes"
TESTS = Path(__file__).parents[1]
WORKER_PLACES = ("chaos/test_faults.py", "chaos/test_no_faults.py", "cluster", "demo/test_demo.py", "test_examples.py")
RUNS_ON_WORKERS = re.compile(r"\[(celery-|taskiq)")  # by the name of a case
# They break rules one by one, try thousands of histories, or run for a given number of seconds.
SLOW_PLACES = (
    "cachepool/test_machine.py",
    "pools/advanced/test_mutants.py",
    "pools/advanced/test_stress.py",
    "pools/connection/test_machine.py",
    "pools/connection/test_mutants.py",
    "pools/connection/test_storm.py",
    "store/test_mutants.py",
    "store/test_same_answers.py",
    "test_defects_in_time.py",
    "test_hammer.py",
    "test_programs_of_the_reference.py",
    "test_wheel.py",
)


def set_markers(items: Iterable[pytest.Item]) -> None:
    """Give each test the markers of its tier."""
    for item in items:
        uses_workers = FIXTURE in getattr(item, "fixturenames", ()) or lies_in(item.path, WORKER_PLACES)
        if uses_workers or (lies_in(item.path, ("frameworks",)) and RUNS_ON_WORKERS.search(item.name)):
            item.add_marker("worker")
        elif lies_in(item.path, SLOW_PLACES):
            item.add_marker("slow")


def lies_in(path: Path, places: Iterable[str]) -> bool:
    """Whether this file is one of the places, which are files or folders below `tests`."""
    return any(path.is_relative_to(TESTS / place) for place in places)


def starts_worker(command: str | Sequence[object]) -> bool:
    """Whether this command line is that of a worker of a framework, or of the demo, which starts one."""
    words = command.split() if isinstance(command, str) else [str(word) for word in command]
    return "cachify_tasks.demo" in words or (bool({"celery", "taskiq"} & {*words}) and "worker" in words)


class WorkerGuard:
    """Refuses to start a worker process while a test without the marker `worker` runs.

    The pytest process has one. Its main thread sets `item`, and every thread that starts a process reads it.
    """

    def __init__(self) -> None:
        self.item: pytest.Item | None = None
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, args: tuple[object, ...]) -> None:
        if event != "subprocess.Popen" or self.item is None or self.item.get_closest_marker("worker"):
            return
        command = args[1]
        if isinstance(command, str | Sequence) and starts_worker(command):
            raise AssertionError(
                f"{self.item.nodeid} starts a worker process: let it use the fixture {FIXTURE}, or `make test-fast` "
                "would run it"
            )
