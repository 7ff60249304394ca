"""The app of the parking benchmarks: its tasks stamp when they begin and end; what limits them is in their names."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from celery import Celery

from cachify_tasks import CachifyPoolFullError, Park, Raise, Reschedule, pooled
from cachify_tasks.celery import setup

BROKER: Final = os.environ["BENCH_BROKER"]

app = Celery("bench", broker=BROKER, backend=None)
app.conf.update(
    task_ignore_result=True,
    task_default_queue=os.environ.get("BENCH_QUEUE", "bench"),
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
)
setup(app, url=os.environ["BENCH_STORE"])
_file = os.open(os.environ.get("BENCH_STAMPS", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def stamped(seconds: float) -> None:
    """As long as it says; then one line: when it began and when it ended, by a clock that all processes share."""
    began = time.monotonic()
    if seconds:
        time.sleep(seconds)
    os.write(_file, b"%.6f %.6f\n" % (began, time.monotonic()))


def add(name: str, limit: int, on_full: Any, **options: Any) -> None:
    @pooled(key=name, max_size=limit, on_full=on_full)
    def limited(seconds: float) -> None:
        stamped(seconds)

    app.task(name=name, **options)(limited)


app.task(name="free")(stamped)
add("park-1", 1, Park())
add("park-2", 2, Park())
add("reschedule-2", 2, Reschedule())
add("retry-2", 2, Raise(), autoretry_for=(CachifyPoolFullError,), max_retries=None, default_retry_delay=0.5)
