"""What a worker answers to `inspect pools` where there are many."""

from types import SimpleNamespace

import pytest
from celery import Celery

from cachify_tasks._core.commands import Acquire
from cachify_tasks.celery import setup
from cachify_tasks.celery.app import _states, runtime_of
from cachify_tasks.celery.inspect_pools import AT_MOST, pools
from cachify_tasks.errors import CachifyStoreError


@pytest.fixture
def state():
    app = Celery("many", broker="memory://", set_as_current=False)
    setup(app, url="memory://")
    yield SimpleNamespace(app=app)
    _states.pop(app, None)


def hold(state, *names):
    for name in names:
        command = Acquire(pool=name, holder="h", request_id="r", limit=2, lease_ms=60_000, start_ms=10_000, label="t")
        runtime_of(state.app).store.execute(command)


def test_of_many_pools_the_first_are_shown_and_the_others_counted(state):
    names = [f"tenant-{number:04}" for number in range(AT_MOST + 7)]
    hold(state, *names)

    told = pools(state)

    assert list(told) == [*names[:AT_MOST], "..."]
    assert told["..."] == "and 7 more pools: name those you look for, as in: inspect pools 'tenant-a*'"
    assert (told[names[0]]["held"], told[names[0]]["limit"], told[names[0]]["holders"][0]["task"]) == (1, 2, "t")


def test_a_pattern_finds_those_that_are_looked_for(state):
    hold(state, "a-1", "a-2", "b-1")

    assert list(pools(state, "a-*")) == ["a-1", "a-2"]
    assert list(pools(state, "b-1")) == ["b-1"]
    assert pools(state, "nothing") == {}


def test_a_store_that_fails_in_between_is_told(state, monkeypatch):
    hold(state, "a")
    store = runtime_of(state.app).store
    monkeypatch.setattr(store, "execute_many", lambda commands: [CachifyStoreError("away") for _ in commands])

    assert pools(state) == {"error": "away"}
