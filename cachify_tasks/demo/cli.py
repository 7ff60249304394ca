"""The demo's command line: start a server and a worker, send a task for each file, report what ran."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from celery import states
from redis import RedisError

from ..testing.server import EmbeddedServer, EmbeddedServerError
from .files import SourceFile, batches, library, source_files
from .report import Report, Run, report
from .tasks import LIMIT, app, index
from .worker import Worker, WorkerError, forget_urls

FAILED: Final = 1
UNUSABLE: Final = 2
PACKAGE_ROOT: Final = Path(__file__).resolve().parents[2]
POLL_S: Final = 0.2  # between two looks for results
PROGRESS_S: Final = 1.0  # between two lines of progress
STALLED_S: Final = 60.0  # without any result: something is wrong

Outcome = tuple[SourceFile, Run | str]  # a string says why there is no result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0: no limit was exceeded and every file has a result. 1: not so. 2: the demo could not run.
    """
    options = _options(arguments)
    began = time.monotonic()
    forget_urls()
    try:
        found, in_tests = source_files(library())
        files = batches(found, options.files)
        print(f"{library()}: {len(files)} source files ({in_tests} in folders of tests are left out).", flush=True)
        outcome = _index(files, options.concurrency)
    except (EmbeddedServerError, WorkerError, RedisError, OSError) as error:
        print(f"the demo could not run: {error}", file=sys.stderr)
        return UNUSABLE
    print(outcome.text())
    print(f"The demo took {time.monotonic() - began:.1f} s.")
    for problem in outcome.problems:
        print(f"FAILED  {problem}")
    if outcome.problems:
        return FAILED
    print("No limit was exceeded, by the tasks' own time stamps, and every file has its result.")
    return 0


def _index(files: Sequence[SourceFile], concurrency: int) -> Report:
    with EmbeddedServer() as server:
        print(f"{Path(server.executable).name} on port {server.port}; a Celery worker with {concurrency} processes;")
        print(
            f'@pooled(key="package-{{package}}", max_size={LIMIT}); a task that finds its pool full is parked.',
            flush=True,
        )
        app.conf.update(broker_url=server.url, result_backend=server.url)
        with Worker(app.main, server.url, concurrency=concurrency, folder=PACKAGE_ROOT) as worker:
            runs: list[Run] = []
            failures: dict[str, str] = {}
            next_line = time.monotonic() + PROGRESS_S
            for file, result in _results(_send(files), worker):
                if isinstance(result, Run):
                    runs.append(result)
                else:
                    failures[file.path] = result
                if time.monotonic() >= next_line or len(runs) == len(files):
                    next_line = time.monotonic() + PROGRESS_S
                    parked = sum(run.parked for run in runs)
                    print(f"  {len(runs)} of {len(files)} done, {parked} of them were parked", flush=True)
    return report(files, runs, failures, LIMIT)


def _send(files: Sequence[SourceFile]) -> dict[str, SourceFile]:
    """Send a task for each file. Returns the file of each task id."""
    with app.producer_pool.acquire(block=True) as producer:
        return {index.apply_async(file, producer=producer).id: file for file in files}


def _results(sent: dict[str, SourceFile], worker: Worker) -> Iterator[Outcome]:
    """What became of each task, as it ends.

    Raises:
        WorkerError: the worker has ended, or has finished nothing for a minute.
    """
    last = time.monotonic()

    def check() -> None:
        worker.check()
        if time.monotonic() - last > STALLED_S:
            raise WorkerError(f"nothing finished for {STALLED_S:g} s; the end of the worker's log:\n{worker.log()}")

    backend: Any = app.backend  # the stubs know the base class alone
    for task_id, outcome in backend.get_many(sent, interval=POLL_S, on_interval=check):
        last = time.monotonic()
        if outcome["status"] == states.SUCCESS:
            yield sent[task_id], Run(**outcome["result"])
        else:
            yield sent[task_id], f"{outcome['status']}: {outcome['result']!r}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cachify_tasks.demo",
        description="Index the standard library with Celery, at most two tasks at once per package.",
    )
    parser.add_argument("--files", type=_count, metavar="N", help="index only N files, evenly chosen")
    parser.add_argument("--concurrency", type=_count, default=6, metavar="N", help="worker processes; default: 6")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)
