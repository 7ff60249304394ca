"""Tasks that find their pool full: how long all of them take, and how long a freed slot stands empty."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import redis
from celery import Celery

from .docket_peer import docket_seconds
from .handover import bench_handover
from .processes import worker_process
from .table import Row, Table

RUNS = 5


class Stamp(NamedTuple):
    began: float
    ended: float


class Worker:
    """A prefork worker with its own queue, whose tasks stamp into a file."""

    def __init__(self, folder: Path, broker: str, store: str, concurrency: int, *, side: str = "", **env: str) -> None:
        self.queue = f"bench{side}-c{concurrency}"
        self._stamps = folder / f"c{concurrency}{side}"
        self._app = Celery("bench", broker=broker, set_as_current=False)
        self._broker = redis.Redis.from_url(broker)
        self._process = worker_process(
            "stamped", self.queue, concurrency, BENCH_BROKER=broker, BENCH_STORE=store, BENCH_QUEUE=self.queue,
            BENCH_STAMPS=str(self._stamps), **env,
        )  # fmt: skip

    @contextmanager
    def running(self) -> Iterator[Worker]:
        with closing(self._broker), self._process:
            self.run("free", 20)
            yield self

    def run(self, task: str, count: int, seconds: float = 0.0) -> tuple[float, list[Stamp]]:
        """Seconds from the moment that the worker finds them all in its queue to the end of the last; their stamps."""
        self._stamps.write_text("")
        staging = f"{self.queue}-staging"
        with self._app.connection_for_write() as connection, connection.Producer() as producer:
            for _ in range(count):
                self._app.send_task(task, (seconds,), queue=staging, producer=producer, ignore_result=True)
        found: list[bytes] = self._broker.lrange(staging, 0, -1)  # type: ignore[assignment]
        messages = [item.replace(staging.encode(), self.queue.encode()) for item in found]
        self._broker.delete(staging)
        began = time.monotonic()
        self._broker.rpush(self.queue, *messages)
        until = began + 180
        while len(lines := self._stamps.read_text().split("\n")) <= count:
            if time.monotonic() > until:
                raise TimeoutError(f"{task}: {len(lines) - 1} of {count} tasks were done in 180 s")
            time.sleep(0.01)
        stamps = sorted(Stamp(*map(float, line.split())) for line in lines[:-1])
        return max(stamp.ended for stamp in stamps) - began, stamps


def gaps(stamps: list[Stamp]) -> list[float]:
    """Milliseconds from each end to the next begin, of tasks that ran one at a time."""
    return [(later.began - earlier.ended) * 1000 for earlier, later in pairwise(stamps)]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def bench(table: Table, url: str) -> None:
    broker = url.rstrip("/").removesuffix("/0") + "/1"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        one, two, four = (stack.enter_context(Worker(folder, broker, url, c).running()) for c in (1, 2, 4))
        _together(table, url, two, four)
        _one_by_one(table, one, four)
    bench_handover(table, url)


def _together(table: Table, url: str, two: Worker, four: Worker) -> None:
    """400 tasks of 20 ms, two at a time: the ideal is 4 s."""
    work = 400, 0.02
    free = [two.run("free", *work)[0] for _ in range(RUNS)]
    rows = {
        "Park": ([four.run("park-2", *work)[0] for _ in range(RUNS)], 1.06),
        "Reschedule": ([four.run("reschedule-2", *work)[0] for _ in range(2)], None),
        "retry(countdown=0.5)": ([four.run("retry-2", *work)[0] for _ in range(2)], None),
        "docket ConcurrencyLimit": ([asyncio.run(docket_seconds(url, *work)) for _ in range(2)], None),
    }
    for name, (times, goal) in rows.items():
        what = f"400 tasks x 20 ms at limit 2, -c 4, {name} / ungated -c 2"
        table.add(_row(what, times, free, "s", goal))


def _one_by_one(table: Table, one: Worker, four: Worker) -> None:
    work = 60, 0.05
    free, parked = (
        [worker.run(task, *work) for _ in range(RUNS)] for worker, task in ((one, "free"), (four, "park-1"))
    )
    what = "limit-1 utilisation, 50 ms tasks, Park -c 4 / ungated -c 1"
    table.add(_row(what, [1 / t for t, _ in parked], [1 / t for t, _ in free], "runs/s", 0.97, better="high"))
    for share, goal in ((0.5, 2.0), (0.99, 8.0)):
        ours, theirs = ([percentile(gaps(stamps), share) for _, stamps in runs] for runs in (parked, free))
        what = f"gap from a task's end to its heir's begin, p{share * 100:.0f} (beside: plain dispatch, -c 1)"
        table.add(_row(what, ours, theirs, "ms"))
        median = statistics.median(ours)
        table.notes.append(f"{what}: {median:.2f} ms, goal <= {goal:g} ms {'met' if median <= goal else 'MISSED'}")
    plain, parked_noop = ([1000 / worker.run(task, 1000)[0] for _ in range(RUNS)] for worker, task in (
        (four, "free"), (four, "park-1")))  # fmt: skip
    what = "every task parked, no-op, limit 1 / plain Celery, both -c 4"
    table.add(_row(what, parked_noop, plain, "tasks/s", 0.5, better="high"))


def _row(
    what: str, ours: list[float], theirs: list[float], unit: str, goal: float | None = None, better: str = "low"
) -> Row:
    """Pairs in the order of their runs; where there are fewer of one, against the median of the other."""
    middle = statistics.median(theirs)
    pairs = zip(ours, theirs, strict=True) if len(ours) == len(theirs) else ((mine, middle) for mine in ours)
    return Row(what, [mine / other for mine, other in pairs], statistics.median(ours), middle, unit, goal, better)
