"""`make bench-compare BASE=commit`: this working tree against another commit, row by row, in alternating runs.

Each row is run in turn on both sides, A B B A ..., in two processes (or by two workers) that live through all of it.
The figure is the ratio within a pair. A row is worse only if the 95 % interval of its median ratio lies above the
bound: 1.03 for trips and pools in a process, 1.10 for rows with workers.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cachify_tasks.testing.server import EmbeddedServer

from .parking import Worker, gaps, percentile
from .processes import worker_process
from .sides import ROWS
from .workers import Bench

ROOT = Path(__file__).parents[2]
PAIRS = 15
BOUND, BOUND_OF_WORKERS = 1.03, 1.10
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Compared:
    """The ratios new / old of one row, and the bound that its interval may not lie above."""

    row: str
    ratios: list[float]
    bound: float

    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of the median ratio (Efron, 1979); its seed is fixed."""
        dice = random.Random(1)
        medians = sorted(statistics.median(dice.choices(self.ratios, k=len(self.ratios))) for _ in range(RESAMPLES))
        return medians[int(RESAMPLES * 0.025)], medians[int(RESAMPLES * 0.975)]

    def line(self) -> str:
        low, high = self.interval()
        verdict = "WORSE" if low > self.bound else "better" if high < 1 else "equal"
        median = statistics.median(self.ratios)
        return f"{self.row:<34} {median:5.2f}  [{low:.2f}, {high:.2f}]  {len(self.ratios)}  {verdict}"


def alternating(*sides: Callable[[], float]) -> list[float]:
    """The ratios of the first side's runs to the second's."""
    new, old = sides
    new(), old()
    ratios = []
    for number in range(PAIRS):
        if number % 2:
            b, a = old(), new()
        else:
            a, b = new(), old()
        ratios.append(a / b)
    return ratios


class SideProcess:
    """A process with one side's package."""

    def __init__(self, package: Path, url: str, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "sides.py"), url, name],
            env={**os.environ, "PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        found = self._read()
        if not str(found).startswith(str(package)):
            raise RuntimeError(f"the package of {package} was asked for, and {found} was imported")

    def _read(self) -> object:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a side has ended")
        return json.loads(line)

    def run(self, row: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{row}\n")
        return float(str(self._read()))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def in_process(new: Path, old: Path, url: str, chosen: list[str]) -> None:
    sides = SideProcess(new, url, "new"), SideProcess(old, url, "old")
    try:
        for row in ROWS:
            if not chosen or row in chosen:
                show(row, alternating(*[partial(side.run, row) for side in sides]), BOUND)
    finally:
        for side in sides:
            side.close()


def with_workers(new: Path, old: Path, url: str) -> None:
    """Prefork workers: no-op tasks whose limit does not bind, parked no-op tasks, and the gap before an heir."""
    broker = url.rstrip("/").removesuffix("/0") + "/1"
    with ExitStack() as stack:
        for kind, package in (("new", new), ("old", old)):
            env = {
                "BENCH_BROKER": broker, "BENCH_STORE": f"{url.removesuffix('/0')}/{2 + (kind == 'old')}",
                "BENCH_KIND": kind, "PYTHONPATH": str(package),
            }  # fmt: skip
            stack.enter_context(worker_process("shop", f"bench-{kind}", 2, **env))
        bench = Bench(broker)
        for kind in ("new", "old"):
            bench.ready(kind)
        for task, row in (("work", "prefork no-op, limit does not bind"), ("free", "prefork, task without a limit")):
            ratios = alternating(*[partial(seconds, bench, kind, task) for kind in ("new", "old")])
            show(row, ratios, BOUND_OF_WORKERS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = []
        for number, (side, package) in enumerate((("new", new), ("old", old))):
            store = f"{url.removesuffix('/0')}/{4 + number}"
            worker = Worker(folder, broker, store, 4, side=side, PYTHONPATH=str(package))
            sides.append(stack.enter_context(worker.running()))
        show(
            "prefork, every task parked, no-op",
            alternating(*[partial(parked, side) for side in sides]),
            BOUND_OF_WORKERS,
        )
        show("gap from an end to its heir, p50", alternating(*[partial(gap, side) for side in sides]), BOUND_OF_WORKERS)


def seconds(bench: Bench, kind: str, task: str) -> float:
    return 1 / bench.run(kind, task)


def parked(side: Worker) -> float:
    return side.run("park-1", 500)[0]


def gap(side: Worker) -> float:
    return percentile(gaps(side.run("park-1", 40, 0.02)[1]), 0.5)


def show(row: str, ratios: list[float], bound: float) -> None:
    print(Compared(row, ratios, bound).line(), flush=True)


def main() -> None:
    base, *chosen = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer() as server:
        old = Path(folder) / "old"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(old), base], cwd=ROOT, check=True)
        try:
            print(f"{'row':<34} new / old, median and 95 % interval, pairs", flush=True)
            if chosen != ["workers"]:
                in_process(ROOT, old, server.url, [row for row in chosen if row in ROWS])
            if not chosen or "workers" in chosen:
                with_workers(ROOT, old, server.url)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
