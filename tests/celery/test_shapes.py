"""A task under `@pooled` is called, retried and refused as the same task without it."""

import pytest
from celery.states import READY_STATES

from tests.support.waiting import wait_until

EXTRA = '''
from app import app

from cachify_tasks import pooled


def both(name, **options):
    """A task without a pool, and the same with one."""

    def decorated(function):
        app.task(name=f"plain.{name}", **options)(function)
        app.task(name=f"gated.{name}", **options)(pooled(key="shape-{key}", max_size=5)(function))

    return decorated


@both("again", bind=True, autoretry_for=(KeyError,), max_retries=2)
def again(self, key, n=0):
    if self.request.retries == 0:
        raise self.retry(kwargs={"n": n + 1}, countdown=0)
    return [key, n, self.request.retries]


@both("bound", bind=True)
def bound(self, key, n=0):
    return [key, n]


@both("retries", autoretry_for=(TypeError,), default_retry_delay=0, max_retries=1)
def retries(key, n=0):
    return [key, n]


@both("free")
def free(key, n=0):
    return [key, n]
'''
CALLS = [
    ("again", ["k"], {}), ("again", ["k", 3], {}),
    ("bound", ["k"], {}), ("bound", [], {}), ("bound", ["k", 1, 2], {}), ("bound", ["k"], {"key": "k"}),
    ("bound", [], {"key": "k", "more": 1}),
    ("free", [], {"n": 1}), ("free", ["k", 1, 2], {}), ("free", [], {"key": "k", "n": 2}),
    ("retries", [], {}), ("retries", ["k", 1, 2], {}),
]  # fmt: skip


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_call_ends_as_without_a_pool(make_shop, pool):
    shop = make_shop()
    (shop.folder / "extra.py").write_text(EXTRA)
    # One at a time: Celery stores the state RETRY after it has sent the retry, which might have ended by then.
    with shop.worker(pool=pool, concurrency=1, args=["-I", "extra"]):
        sent = {
            (kind, number): shop.sent(shop.app.send_task(f"{kind}.{name}", args, kwargs))
            for number, (name, args, kwargs) in enumerate(CALLS)
            for kind in ("plain", "gated")
        }
        ends = {which: end(task) for which, task in sent.items()}

    for number in range(len(CALLS)):
        assert ends["gated", number] == ends["plain", number], CALLS[number]


def end(task):
    """Its state, and its result or error."""
    wait_until(lambda: task.state in READY_STATES)
    return task.state, repr(task.meta["result"])
