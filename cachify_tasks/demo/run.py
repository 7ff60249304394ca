"""Send a task for each file, and gather the results as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from celery import states

from .files import SourceFile
from .report import Run, run_of
from .tasks import app, index
from .worker import Worker, WorkerError

LOOK_S: Final = 0.2  # between two looks for results
STALLED_S: Final = 60.0  # without any result: something is wrong

Sent = dict[str, tuple[SourceFile, int]]
Failure = tuple[SourceFile, str]


def use(url: str) -> None:
    """Have the app in this process send to this broker, and read results there."""
    app.conf.update(broker_url=url, result_backend=url)


def send(files: Sequence[SourceFile]) -> Sent:
    """Send them all; returns the file, and when it was sent, of each task id."""
    sent: Sent = {}
    with app.producer_pool.acquire(block=True) as producer:
        for file in files:
            now = time.monotonic_ns()
            sent[index.apply_async(file, producer=producer).id] = file, now
    return sent


def results(sent: Sent, worker: Worker, *, tick: Callable[[], None]) -> Iterator[Run | Failure]:
    """What became of each task, as it ends.

    Args:
        tick: called several times a second.

    Raises:
        WorkerError: the worker has ended, or has finished nothing for a minute.
    """
    last = time.monotonic()

    def look() -> None:
        worker.check()
        if time.monotonic() - last > STALLED_S:
            raise WorkerError(f"nothing finished for {STALLED_S:g} s; the end of the worker's log:\n{worker.log()}")
        tick()

    backend: Any = app.backend  # the stubs know the base class alone
    for task_id, outcome in backend.get_many(sent, interval=LOOK_S, on_interval=look):
        last = time.monotonic()
        file, when = sent[task_id]
        if outcome["status"] == states.SUCCESS:
            yield run_of(outcome["result"], when)
        else:
            yield file, f"{outcome['status']}: {outcome['result']!r}"
