"""A message that is sent again is the one that was delivered, whatever the task's own `apply_async` would do."""

import pytest

REGISTER = """
import ast
from kombu.serialization import register


def load(data):
    return ast.literal_eval(data if isinstance(data, str) else bytes(data).decode())


register("repr", repr, load, content_type="application/x-repr", content_encoding="utf-8")
"""
EXTRA = '''
import contextvars
import os
from pathlib import Path

from app import app
from celery import Task
from celery.signals import before_task_publish

from cachify_tasks import Reschedule, pooled
from shop import stamped, wait_for

tenant = contextvars.ContextVar("tenant", default="nobody's")


@before_task_publish.connect
def add_tenant(headers=None, **_):
    headers["tenant"] = tenant.get()


class Once(Task):
    """Sends each task once, and answers everything else with the id of another one."""

    def apply_async(self, args=None, kwargs=None, **options):
        if os.environ.get("SHOP_RUNS"):  # in a worker
            return "another id"
        return super().apply_async(args, kwargs, **options)


def task(name, **options):
    def decorated(function):
        gated = pooled(key="{key}", max_size=1, on_full=Reschedule(delay=0.05, max_delay=0.1))(function)
        return app.task(name=name, bind=True, **options)(gated)

    return decorated


@task("extra.hold")
def hold(self, key, gate):
    with stamped(self, key):
        wait_for(gate)


def seen(self, key, value=None):
    with stamped(self, key):
        request = self.request
        return [self.request.headers.get("tenant"), repr(value), request.argsrepr, request.delivery_info["priority"]]


task("extra.seen")(seen)
task("extra.once", base=Once)(seen)
'''


@pytest.fixture
def shop(make_shop):
    exec(REGISTER, {})  # here and in the worker
    shop = make_shop(accept_content=["json", "repr"])
    (shop.folder / "app.py").write_text(REGISTER + (shop.folder / "app.py").read_text())
    (shop.folder / "extra.py").write_text(EXTRA)
    return shop


def put_off(shop, name, args, **options):
    """A task that found its pool full, and was sent again at least once before it ran; its result."""
    hold = shop.sent(shop.app.send_task("extra.hold", (args[0], f"{args[0]}.go")))
    shop.runs.wait_begun(args[0])
    sent = shop.sent(shop.app.send_task(name, args, **options))
    shop.wait_state(sent, "RETRY")

    shop.open(f"{args[0]}.go")

    hold.get()
    return sent.get()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_rescheduled_task_is_sent_again_as_it_was_delivered(shop, pool):
    with shop.worker(pool=pool, args=["-I", "extra"]):
        hidden = put_off(
            shop, "extra.seen", ("k", {1, 2}), argsrepr="('k', ***)", serializer="repr", priority=5,
            headers={"tenant": "ada"},
        )  # fmt: skip

        assert hidden == ["ada", repr({1, 2}), "('k', ***)", 5]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_whose_class_deduplicates_runs_though_it_was_rescheduled(shop, pool):
    with shop.worker(pool=pool, args=["-I", "extra"]):
        assert put_off(shop, "extra.once", ("k", 1))[1] == "1"


def test_a_message_that_is_sent_again_goes_to_the_queue_that_it_came_from(make_shop):
    shop = make_shop(task_routes={"extra.*": {"queue": "elsewhere"}})
    (shop.folder / "extra.py").write_text(EXTRA)
    with shop.worker(args=["-I", "extra", "-Q", "first"]):
        hold = shop.sent(shop.app.send_task("extra.hold", ("k", "k.go"), queue="first"))
        shop.runs.wait_begun("k")
        sent = shop.sent(shop.app.send_task("extra.seen", ("k",), queue="first"))
        shop.wait_state(sent, "RETRY")

        shop.open("k.go")

        hold.get()
        assert sent.get()[1] == "None"
