"""The demo's command line: its options, its order of events, its exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from redis import RedisError
from rich.console import Console

from ..testing.server import EmbeddedServer, EmbeddedServerError
from . import tasks
from .files import SourceFile, batches, library, source_files
from .picture import picture
from .progress import Progress
from .report import Report, Run, report
from .run import results, send, use
from .table import print_sums, print_table
from .worker import Worker, WorkerError, forget_urls

FAILED: Final = 1
UNUSABLE: Final = 2
PACKAGE_ROOT: Final = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0: every limit was kept and every file has a result. 1: not so. 2: it could not run.
    """
    options = _options(arguments)
    began = time.monotonic()
    forget_urls()
    try:
        found, tests = source_files(library())
        files = batches(found, options.files)
        packages = len({file.package for file in files})
        print(f"{library()}: {len(files)} source files of {packages} packages", end="")
        print(f" ({tests} in folders of tests are left out).", flush=True)
        outcome = _index(files, options.concurrency)
        print_table(_console(), outcome)
        print_sums(outcome, time.monotonic() - began)
        options.output.write_text(picture(outcome, options.concurrency), encoding="utf-8")
    except (EmbeddedServerError, WorkerError, RedisError, OSError) as error:
        print(f"the demo could not run: {error}", file=sys.stderr)
        return UNUSABLE
    for problem in outcome.problems:
        print(f"FAILED  {problem}")
    if not outcome.problems:
        print("Every limit was kept, by the tasks' own time stamps, and every file has its result.")
    print(f"What ran when: {options.output}")
    return FAILED if outcome.problems else 0


def _index(files: Sequence[SourceFile], concurrency: int) -> Report:
    console = _console()
    with EmbeddedServer() as server:
        print(f"{Path(server.executable).name} on port {server.port}; a Celery worker with {concurrency} processes;")
        print(f'@pooled(key="package-{{package}}", max_size={tasks.LIMIT}); a full pool parks.', flush=True)
        use(server.url)
        with Worker(tasks.__name__, server.url, concurrency=concurrency, folder=PACKAGE_ROOT) as worker:
            runs: list[Run] = []
            failures: dict[str, str] = {}
            sent = send(files)
            with Progress(console, files) as progress:
                for result in results(sent, worker, tick=progress.show):
                    if isinstance(result, Run):
                        runs.append(result)
                        progress.add(result.package, parked=bool(result.parked))
                    else:
                        file, why = result
                        failures[file.path] = why
                        progress.add(file.package, parked=False)
        return report(files, runs, failures, tasks.LIMIT)


def _console() -> Console:
    return Console(highlight=False)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cachify_tasks.demo",
        description="Index the standard library with Celery, at most two tasks at once per package.",
    )
    parser.add_argument("--files", type=_count, metavar="N", help="index only N files, evenly chosen")
    parser.add_argument("--concurrency", type=_count, default=6, metavar="N", help="worker processes; default: 6")
    parser.add_argument(
        "--output", type=_writable, default="cachify-demo.svg", metavar="FILE.svg", help="default: cachify-demo.svg"
    )
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


def _writable(text: str) -> Path:
    """Said before the run, not after it."""
    path = Path(text).absolute()
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path} cannot be written")
    return path
