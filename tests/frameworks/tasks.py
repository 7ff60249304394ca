"""The tasks of the suite: functions under `pooled`, the same for every framework; copied beside Celery workers."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cachify_tasks import CachedFallback, Drop, LeaseLost, Park, Raise, Reschedule, current_slot, pooled

PATIENCE_S = 120.0  # longer than a test waits for anything
TASKS: dict[str, Callable[..., Any]] = {}


def stamp(event: str, key: str) -> None:
    """Add a line to the runs of the suite; `t` is one monotonic clock for all processes of the machine."""
    slot = current_slot()
    line = {
        "event": event, "key": key, "id": slot.holder.rpartition(":")[0], "token": slot.token, "t": time.monotonic(),
        "pid": os.getpid(), "parent": os.getppid(), "thread": threading.get_ident(),
    }  # fmt: skip
    file = os.open(os.environ["SUITE_RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


def work(key: str, mode: str = "ok", gate: str = "") -> str:
    """Run until the test makes the file named `gate`; say whether the slot is still held if the mode is "check"."""
    stamp("begin", key)
    try:
        until = time.monotonic() + PATIENCE_S
        while gate and not Path(gate).exists():
            if time.monotonic() > until:
                raise TimeoutError(f"nobody opened {gate}")
            time.sleep(0.005)
        if mode == "check":
            try:
                current_slot().check()
            except LeaseLost:
                return "LeaseLost"
        if mode == "busy":
            time.sleep(0.03)
        return f"{mode} done"
    finally:
        stamp("end", key)


def called(key: str, mode: str = "ok", gate: str = "") -> list[str]:
    return ["called", key, mode]


def task(name: str, *, max_size: int = 1, **options: Any) -> None:
    """All tasks share the pools of their keys."""

    @pooled(key="{key}", max_size=max_size, **options)
    def run(key: str, mode: str = "ok", gate: str = "") -> str:
        return work(key, mode, gate)

    run.__name__ = run.__qualname__ = f"{name}_task"
    TASKS[name] = run


STRATEGIES: dict[str, Any] = {
    "raise": Raise(), "drop": Drop(), "drop_with": Drop(result=7), "again": Reschedule(delay=0.05, max_delay=0.2),
    "cached": CachedFallback(ttl=60, default=-1), "called": called,
}  # fmt: skip

task("park", on_full=Park())
task("two", max_size=2, on_full=Park())
task("none", on_full=None)
for strategy, on_full in STRATEGIES.items():
    task(strategy, on_full=on_full)
    task(f"few_{strategy}", on_full=Park(max_parked=1, then=on_full))
    task(f"old_{strategy}", on_full=Park(max_age=0.2, then=on_full))
