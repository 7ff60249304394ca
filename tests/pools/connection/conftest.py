"""After each test: no task, no future, no open connection. Threads are looked at by the check for all tests."""

from __future__ import annotations

import asyncio
import gc

import pytest

from cachify_tasks.pools.connection import timed_call

from .kit import World, pending, turns


@pytest.fixture(scope="package", autouse=True)
def _only_our_objects():
    """What was there before is not looked through for futures."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
async def world(monkeypatch):
    monkeypatch.setattr(timed_call, "SLOW_S", 60)  # no call is slow because the machine is busy
    made = World()
    yield made
    await turns()
    assert not pending(asyncio.get_running_loop())
    assert not made.open
    assert {conn.closed for conn in made.made} <= {1}
