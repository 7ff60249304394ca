"""Parking changes nothing of a message, wherever its task then runs."""

from typing import Any

import pytest
from celery import chain, chord, group

from cachify_tasks import init_cachify
from tests.support.workers import together, write_app


@pytest.fixture(scope="module", params=["here", "called"])
def shared(make_shared_shop, request):
    """A shop with a worker for the queue that tasks are sent to, and `hold`, which takes the pool's only slot.

    "called": the slot is held in a worker that does not consume that queue, so it calls the other one.
    """
    shop = make_shared_shop(accept_content=["json", "yaml", "pickle"], worker_prefetch_multiplier=8)
    queue = "shop" if request.param == "here" else "elsewhere"
    workers = [shop.worker(name="home", concurrency=2)]
    if queue != "shop":
        workers.append(shop.worker(name="else", concurrency=1, args=["-Q", queue]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C_FORCE_ROOT", "1")  # else no pickle for root
        with together(*workers):

            def hold(key):
                shop.send("park", key, "ok", f"{key}.go", queue=queue)
                shop.runs.wait_begun(key)

            shop.hold = hold
            yield shop


@pytest.fixture
def shop(shared):
    yield shared
    shared.wait_quiet()


def test_a_parked_task_is_told_what_it_would_have_been_told_otherwise(shop):
    task = shop.app.tasks["park_tells"]
    options = {
        "kwargs": {"z": [1, {"y": None}], "big": "x" * 5000}, "priority": 3, "expires": 3600, "retries": 2,
        "headers": {"mine": "yes", "nested": {"a": [1]}}, "soft_time_limit": 50, "time_limit": 60, "shadow": "other",
        "link": dict(shop.app.tasks["total"].si([1])), "link_error": dict(shop.app.tasks["total"].si([2])),
        "root_id": "the-root", "parent_id": "the-parent", "reply_to": "me", "correlation_id": "c",
        "compression": "zlib",
    }  # fmt: skip
    free = shop.sent(task.apply_async(args=["free", "a", 1], **options)).get()
    shop.hold("full")

    sent = [
        shop.sent(task.apply_async(args=["full", "a", 1], serializer=serializer, **options))
        for serializer in ("json", "yaml", "pickle")
    ]
    delayed = shop.sent(task.apply_async(args=["full"], countdown=0.5))
    shop.wait_parked(4)
    shop.open("full.go")

    for one in sent:
        told = one.get()
        assert abs(len(told["expires"]) - len(free["expires"])) <= 7  # microseconds
        assert told | {name: free[name] for name in ("args", "argsrepr", "expires")} == free
        assert told["args"] == ["full", "a", 1]
    assert delayed.get()["eta"]


AGAIN = """
import os
import signal

from cachify_tasks import pooled
from celery.exceptions import Reject
from shop import stamp


@app.task(name="again", bind=True, acks_late=True, reject_on_worker_lost=True)
@pooled(key="again", max_size=1)
def again(self, how):
    told = bool(self.request.delivery_info["redelivered"])
    stamp("begin", self, how, redelivered=told)
    if not told and how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if not told:
        raise Reject("as told", requeue=True)
    return told
"""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["by its worker", "by a hint"])
@pytest.mark.parametrize("how", ["requeues", "dies"])
def test_a_task_that_runs_once_more_reads_that_it_was_redelivered(make_shop, how, elsewhere):
    shop = make_shop(cachify_start_timeout=1)
    write_app(shop.folder, **shop.options)
    app = shop.folder / "app.py"
    hints = "\nfrom cachify_tasks.celery.gate import Gate, Refusal\nGate.can_run = lambda *_: Refusal.NOT_MINE\n"
    app.write_text(app.read_text() + AGAIN + hints * elsewhere)
    store = init_cachify(url=shop.store_url, is_global=False)
    with shop.worker(concurrency=1), store.pool(key="again", max_size=1):
        parked = shop.sent(shop.app.send_task("again", args=[how]))
        shop.wait_parked(1)
    with shop.worker(name="second", concurrency=1):
        assert parked.get() is True
        shop.wait_quiet()
    assert [line["redelivered"] for line in shop.runs.begun(how)] == [False, True]


def test_chains_groups_and_chords_go_on_through_parked_tasks(shop):
    tells, total, echo = (shop.app.tasks[name] for name in ("park_first", "total", "echo"))
    shop.hold("canvas")

    in_chain = shop.sent(chain(tells.si("canvas", 5), echo.s()).apply_async())
    in_chord = shop.sent(chord([tells.si("canvas", n) for n in range(4)], total.s()).apply_async())
    made: Any = group(tells.si("canvas", n) for n in range(3)).apply_async()
    in_group = [shop.sent(one) for one in made.results]
    shop.wait_parked(8)
    shop.open("canvas.go")

    assert in_chain.get() == 5
    assert in_chord.get() == 6
    assert [one.get() for one in in_group] == [0, 1, 2]
    assert len(shop.ids("canvas")) == len(set(shop.ids("canvas"))) == 9


def test_links_and_error_links_of_parked_tasks_are_called(shop):
    after = shop.app.tasks["plain"]
    shop.hold("links")

    shop.send("park", "links", "ok", link=after.si("linked"))
    failed = shop.send("park", "links", "error", link_error=after.si("unlinked"))
    shop.wait_parked(2)
    shop.open("links.go")

    shop.runs.wait_begun("linked")
    shop.runs.wait_begun("unlinked")
    with pytest.raises(Exception, match="as told"):
        failed.get()
