"""After each test there must be no worker thread, daemon or not, and no pending future."""

import gc
import threading

import pytest

from cachify_tasks.pools.advanced.executor import ExecutorJob
from cachify_tasks.pools.advanced.jobs import PoolFuture
from tests.support.waiting import wait_until

NAME = "AdvancedPool-"


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(NAME)]


def pending() -> list[object]:
    return [thing for thing in gc.get_objects() if isinstance(thing, PoolFuture | ExecutorJob) and not thing.done()]


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    wait_until(lambda: not workers(), message="the workers end")
    gc.collect()
    assert not pending()
