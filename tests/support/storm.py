"""The Celery app of the chaos tests: tasks that keep asking whether they hold their slot. Copied beside each worker."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery

from cachify_tasks import CachifyStoreError, LeaseLost, Park, current_slot, pooled
from cachify_tasks.celery import setup

SLICE = 0.02  # seconds of work between two questions
PATIENCE = 30.0  # seconds that a run waits for a store that is out of reach


def stamp(event: str, **more: Any) -> None:
    """One line in one write; `t` is monotonic and the same clock in all processes."""
    line = {"event": event, "pid": os.getpid(), "t": time.monotonic()} | more
    file = os.open(os.environ["SHOP_RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


def work(task: Any, key: str, seconds: float) -> None:
    """Stamp begin, each moment at which the lease was valid, its loss, and the end."""
    slot, name = current_slot(), task.request.id
    run = {"id": name, "key": key, "token": slot.token}
    began = time.monotonic()
    stamp("begin", **run, limit=int(task.name.removeprefix("limit")), main=os.getppid())
    lost, asked = False, False
    while True:
        before = time.monotonic()  # asked after it: if the answer is yes, the lease was valid then
        over = before - began >= seconds
        if not lost:
            try:
                slot.check()
                asked = True
                stamp("held", **run, at=before)
            except LeaseLost:
                lost = True
                stamp("lost", **run)
            except CachifyStoreError:
                asked = before - began > PATIENCE
        if over and (asked or lost):
            break
        time.sleep(min(SLICE, max(began + seconds - before, 0.001)))
    stamp("end", **run, lost=lost)


def make_app(broker: str, store: str, queue: str = "storm", **conf: Any) -> Celery:
    """An app with the tasks limit1 to limit4."""
    app = Celery("storm", broker=broker, set_as_current=False)
    app.conf.update(
        task_default_queue=queue, task_acks_late=True, task_reject_on_worker_lost=True, task_ignore_result=True,
        broker_connection_retry_on_startup=True, worker_hijack_root_logger=False, worker_send_task_events=False,
        worker_enable_remote_control=False,
    )  # fmt: skip
    app.conf.update(conf)
    setup(app, url=store)
    for limit in range(1, 5):
        _add(app, limit)
    return app


def _add(app: Any, limit: int) -> None:
    @app.task(name=f"limit{limit}", bind=True, shared=False)
    @pooled(key="{key}", max_size=limit, on_full=Park())
    def limited(self: Any, key: str, seconds: float = 0.0) -> None:
        work(self, key, seconds)
