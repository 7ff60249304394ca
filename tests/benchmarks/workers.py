"""No-op tasks through a prefork worker, with a limit that does not bind, against plain Celery."""

from __future__ import annotations

import time
from contextlib import ExitStack

import redis
from celery import Celery

from tests.support.proxy import FaultProxy

from .processes import worker_process
from .table import Table, paired

TASKS = 1500
PAIRS = 7


class Bench:
    def __init__(self, broker: str) -> None:
        self._app = Celery("bench", broker=broker)
        self._client = redis.Redis.from_url(broker, socket_timeout=None)

    def run(self, kind: str, task: str = "work", tasks: int = TASKS) -> float:
        """Tasks a second, from the moment the worker finds them all in its queue to the end of the last one."""
        queue, done = f"bench-{kind}", f"done-{kind}"
        with self._app.connection_for_write() as connection, connection.Producer() as producer:
            for n in range(tasks):
                self._app.send_task(task, (str(n % 20),), queue="staging", producer=producer, ignore_result=True)
            self._app.send_task("mark", (done,), queue="staging", producer=producer, ignore_result=True)
        began = time.perf_counter()
        self._client.rename("staging", queue)
        if self._client.blpop([done], timeout=120) is None:
            raise TimeoutError(f"{kind}: {tasks} tasks were not done in 120 s")
        return tasks / (time.perf_counter() - began)

    def ready(self, kind: str) -> None:
        self.run(kind, "free", 50)


def bench(table: Table, url: str) -> None:
    broker = url.rstrip("/").removesuffix("/0") + "/1"
    with ExitStack() as stack:
        port = int(url.rsplit(":", 1)[1].split("/", maxsplit=1)[0])
        proxy = stack.enter_context(FaultProxy(port))
        proxy.latency = 0.001
        for kind, store in (("plain", url), ("gated", url), ("slow", proxy.url)):
            env = {"BENCH_BROKER": broker, "BENCH_STORE": store, "BENCH_KIND": kind}
            stack.enter_context(worker_process("shop", f"bench-{kind}", 2, **env))
        bench = Bench(broker)
        for kind in ("plain", "gated", "slow"):
            bench.ready(kind)

        def row(what: str, kind: str, task: str, goal: float | None) -> None:
            table.add(
                paired(
                    what,
                    lambda: bench.run(kind, task),
                    lambda: bench.run("plain", task),
                    unit="tasks/s",
                    goal=goal,
                    better="high",
                    pairs=PAIRS,
                )
            )

        row("Celery prefork, no-op, limit does not bind / plain Celery", "gated", "work", 0.90)
        row("Celery prefork, tasks without a policy / plain Celery", "gated", "free", 0.98)
        row("Celery prefork, no-op, 2 ms more to the store / plain Celery", "slow", "work", None)
        trips, tasks = proxy.connections, bench.run("slow")
        table.notes.append(
            f"with 2 ms more to the store: {tasks:.0f} tasks/s on {trips} connections; its loop waits for no trip, "
            "but with two processes at most two tasks are on their way at once, and each waits for its own"
        )
