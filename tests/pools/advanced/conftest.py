"""After each test: no worker, daemon or not, and no future that is still waited for."""

import gc
import threading

import pytest

from cachify_tasks.pools.advanced.jobs import Awaited
from cachify_tasks.pools.advanced.view import Call
from tests.support.waiting import wait_until

NAME = "AdvancedPool-"


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(NAME)]


def pending() -> list[object]:
    return [thing for thing in gc.get_objects() if isinstance(thing, Awaited | Call) and not thing.done()]


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    wait_until(lambda: not workers(), message="the workers end")
    gc.collect()
    assert not pending()
