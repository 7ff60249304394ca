"""Parked tasks that a worker cannot start: others go first, and what nobody can ever start ends where it is seen."""

import pytest
from celery import chord
from celery.exceptions import ChordError, NotRegistered, TaskRevokedError, WorkerLostError

from tests.celery.test_send_again import REGISTER
from tests.support.waiting import wait_until

EXTRA = """
import os
import signal

from app import app

from cachify_tasks import pooled
from shop import stamped


def gated(name, **options):
    def decorated(function):
        return app.task(name=name, bind=True, acks_late=True, **options)(
            pooled(key="park-{key}", max_size=1)(function)
        )

    return decorated


@gated("extra.seen")
def seen(self, key, value=None):
    with stamped(self, key):
        return value


@gated("extra.slow")
def slow(self, key):
    with stamped(self, key):
        return "slow"


@gated("extra.deadly", reject_on_worker_lost=True)
def deadly(self, key):
    with stamped(self, key):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def make(make_shop, **conf):
    shop = make_shop(**{"cachify_lease_ttl": 3, "cachify_start_timeout": 1, **conf})
    (shop.folder / "extra.py").write_text(EXTRA)
    return shop


def left_behind(shop, *sent, pool="prefork"):
    """These tasks, parked by a worker that was killed while another task of their pool ran."""
    with shop.worker(name="old", pool=pool, args=["-I", "extra"]) as old:
        shop.send("park", "key", "ok", "never.go")
        shop.runs.wait_begun("key")
        tasks = [shop.sent(shop.app.send_task(name, args, **options)) for name, args, options in sent]
        shop.wait_parked(len(tasks))
        old.kill()
        old.wait_ended()
    return tasks


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_was_renamed_does_not_stop_the_others_and_can_be_revoked(make_shop, pool):
    shop = make(make_shop)
    lost = left_behind(shop, *[("extra.seen", ("key",), {})] * 3)
    with shop.worker(pool=pool) as worker:
        wait_until(lambda: "this worker does not know its task" in worker.logs())

        assert shop.send("park", "key").get() == "ok done"
        shop.obeyed("revoke", [task.id for task in lost])

        for task in lost:
            with pytest.raises(TaskRevokedError):
                task.get()
        shop.wait_quiet()
        assert "unregistered" not in worker.logs()


def test_a_task_that_no_worker_knows_ends_after_the_grace(make_shop):
    shop = make(make_shop, cachify_unknown_task_grace=2)
    (lost,) = left_behind(shop, ("extra.seen", ("key",), {}))
    with shop.worker() as worker:
        with pytest.raises(NotRegistered):
            lost.get()

        shop.wait_quiet()
        assert f"the task {lost.id}, parked in pool 'park-key', has ended without a run" in worker.logs()


def test_a_task_that_is_known_again_runs(make_shop):
    shop = make(make_shop)
    (task,) = left_behind(shop, ("extra.seen", ("key", 7), {}))
    with shop.worker(name="middle") as middle:
        wait_until(lambda: "this worker does not know its task" in middle.logs())

    with shop.worker(name="new", args=["-I", "extra"]):
        assert task.get() == 7
        shop.wait_quiet()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_message_that_cannot_be_read_any_more_ends_at_once(make_shop, pool):
    exec(REGISTER, {})  # here and in the worker
    shop = make(make_shop, accept_content=["json", "repr"])
    app = shop.folder / "app.py"
    app.write_text(REGISTER + app.read_text())
    (unread,) = left_behind(shop, ("extra.seen", ("key", {1, 2}), {"serializer": "repr"}))
    app.write_text(app.read_text() + "\napp.conf.accept_content = ['json']\n")
    with shop.worker(pool=pool, args=["-I", "extra"]):
        with pytest.raises(Exception, match="ContentDisallowed"):
            unread.get()

        assert shop.send("park", "key").get() == "ok done"
        shop.wait_quiet()


def test_a_task_that_kills_its_process_each_time_ends(make_shop):
    shop = make(make_shop)
    with shop.worker(args=["-I", "extra"]) as worker:
        shop.send("park", "key", "ok", "go")
        shop.runs.wait_begun("key")
        deadly = shop.sent(shop.app.send_task("extra.deadly", ("key",)))
        shop.wait_parked(1)
        shop.open("go")

        with pytest.raises(WorkerLostError, match="killed its process 3 times"):
            deadly.get()

        assert shop.send("park", "key").get() == "ok done"
        assert shop.ids("key").count(deadly.id) == 3
        assert "has ended without a run" in worker.logs()
        shop.wait_quiet()


def test_the_chord_of_a_task_that_kills_its_process_each_time_fails(make_shop):
    shop = make(make_shop)
    with shop.worker(args=["-I", "extra"]):
        shop.send("park", "key", "ok", "go")
        shop.runs.wait_begun("key")
        header = [shop.app.signature("extra.deadly", args=("key",))]
        body = shop.app.signature("extra.seen", args=("key",), immutable=True)
        chord_body = shop.sent(chord(header, body, app=shop.app).apply_async())
        shop.wait_parked(1)
        shop.open("go")

        with pytest.raises(ChordError, match="killed its process 3 times"):
            chord_body.get()
        shop.wait_quiet()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_waits_for_its_rate_limit_holds_no_slot(make_shop, pool):
    shop = make(make_shop)
    with shop.worker(pool=pool, args=["-I", "extra"]):
        shop.send("park", "key", "ok", "go")
        shop.runs.wait_begun("key")
        slow = [shop.sent(shop.app.send_task("extra.slow", ("key",))) for _ in range(3)]
        shop.wait_parked(3)
        shop.obeyed("rate_limit", "extra.slow", "1/h")
        other = shop.send("park", "key")
        shop.open("go")

        assert other.get() == "ok done"
        shop.obeyed("revoke", [task.id for task in slow])
        wait_until(lambda: all(task.state in ("SUCCESS", "REVOKED") for task in slow))
        shop.wait_quiet()


def test_a_worker_that_scales_from_nothing_grows_for_parked_tasks(make_shop, monkeypatch):
    monkeypatch.setenv("AUTOSCALE_KEEPALIVE", "3600")  # it grows for a task, not because it is time
    shop = make(make_shop)
    (task,) = left_behind(shop, ("extra.seen", ("key", 7), {}))
    with shop.worker(args=["-I", "extra", "--autoscale=2,0"]):
        assert task.get() == 7
        shop.wait_quiet()
