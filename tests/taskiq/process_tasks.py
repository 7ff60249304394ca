"""Tasks for the processes of a pool, which import them by name."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

from taskiq import InMemoryBroker

from cachify_tasks import Park, Raise, current_slot, pooled
from cachify_tasks.taskiq import CachifyMiddleware
from tests.support.waiting import PATIENCE_S

broker = InMemoryBroker(sync_tasks_pool_size=1)
if multiprocessing.parent_process() is not None:  # in the test's own process each bench has one
    broker.add_middlewares(CachifyMiddleware())  # its url is in the environment


def work(folder: str, name: str) -> int:
    """Run until the test makes the file `go`."""
    Path(folder, name).touch()
    until = time.monotonic() + PATIENCE_S
    while not Path(folder, "go").exists():
        if time.monotonic() > until:
            raise TimeoutError(f"nobody made {folder}/go")
        time.sleep(0.005)
    return os.getpid()


def instead(key: str) -> tuple[str, int]:
    return key, os.getpid()


@broker.task("slot_of")
@pooled(key="{key}", max_size=1)
def slot_of(key: str) -> tuple[str, int, bool]:
    slot = current_slot()
    return slot.key, slot.token, slot.lost


@broker.task("waits")
@pooled(key="p", max_size=1, on_full=Park())
def waits(folder: str, name: str) -> int:
    return work(folder, name)


@pooled(key="p", max_size=1, on_full=Park())
@broker.task("stacked")
def stacked() -> str:
    return current_slot().key


@broker.task("raises")
@pooled(key="p", max_size=1, on_full=Raise())
def raises() -> None: ...


@broker.task("called")
@pooled(key="{key}", max_size=1, on_full=instead)
def called(key: str) -> tuple[str, int]:
    raise AssertionError("its pool is full")


@broker.task("calls_itself")
@pooled(key="{key}", max_size=1, on_full=Raise())
def calls_itself(key: str, more: int) -> list[str]:
    return [current_slot().key, *(calls_itself(f"{key}+", more - 1) or [] if more else [])]
