"""Programs as people write them: Flask and Django factories, beat, several apps, what a worker refuses."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.celery.conftest import Sent, silence
from tests.support.shop import whole_files
from tests.support.workers import Runs, Worker, write_app

FLASK = """
from celery import Celery, Task, shared_task
from flask import Flask, current_app

from cachify_tasks import current_slot, pooled
from cachify_tasks.celery import setup

def celery_init_app(app):
    class FlaskTask(Task):
        def __call__(self, *args, **kwargs):
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    setup(celery_app)
    app.extensions["celery"] = celery_app
    return celery_app

def create_app():
    app = Flask("shop")
    app.config["CELERY"] = dict(broker_url={broker!r}, result_backend={broker!r}, cachify_url={store!r},
                                cachify_prefix="flask")
    celery_init_app(app)
    return app

@shared_task(name="greet")
@pooled(key="greet-{{name}}", max_size=1)
def greet(name):
    return [current_app.name, current_slot().key]

@pooled(key="part-{{name}}", max_size=1)
@shared_task(name="part")
def part(name):
    return [current_app.name, current_slot().key]

create_app()
app = create_app().extensions["celery"]
"""

DJANGO = """
import os
from celery import Celery, shared_task
from django.conf import settings

from cachify_tasks import current_slot, pooled
from cachify_tasks.celery import setup

settings.configure(CELERY_BROKER_URL={broker!r}, CELERY_RESULT_BACKEND={broker!r}, CELERY_CACHIFY_URL={store!r},
                   CELERY_CACHIFY_PREFIX="django", CACHIFY_OTHER="of another package", SECRET_KEY="x", USE_TZ=True)
import django
django.setup()
os.environ["DJANGO_SETTINGS_MODULE"] = ""
app = Celery("shop")
setup(app)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

@shared_task(name="greet")
@pooled(key="greet-{{name}}", max_size=1)
def greet(name):
    return [settings.CACHIFY_OTHER, current_slot().key]

@pooled(key="part-{{name}}", max_size=1)
@app.task(name="part")
def part(name):
    return [settings.CACHIFY_OTHER, current_slot().key]
"""

REFUSED = """
from celery import Celery
from cachify_tasks import init_cachify, pooled
from cachify_tasks.celery import setup

app = Celery("shop", broker={broker!r})
setup(app, url={store!r})
{more}
"""
UNGATED = """
@app.task(name="lost")
@pooled(key="lost", max_size=1)
def lost(): ...

import cachify_tasks.celery.bootsteps as steps
steps.gate_task = lambda task: None  # as if another package put its own Request there
"""
SPLIT = """
cachify = init_cachify(url="redis://127.0.0.1:1/5", is_global=False)

@app.task(name="lost")
@cachify.pooled(key="lost", max_size=1)
def lost(): ...
"""
TWO_STORES = """init_cachify(url="redis://127.0.0.1:1/5")"""
UNKNOWN = "app.conf.cachify_leese = 3"


pytestmark = pytest.mark.usefixtures("worker_processes")


@pytest.fixture
def client(broker_url) -> Iterator[Celery]:
    app = Celery("client", broker=broker_url, backend=broker_url, set_as_current=False)
    silence(app)
    yield app
    app.close()
    backend: Any = app.backend
    backend.client.close()


@pytest.fixture
def write(tmp_path: Path, redis_url: str, broker_url: str) -> Callable[..., Path]:
    def write(text: str, **more: str) -> Path:
        (tmp_path / "app.py").write_text(text.format(broker=broker_url, store=redis_url, **more))
        return tmp_path

    return write


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize(("text", "name"), [(FLASK, "shop"), (DJANGO, "of another package")], ids=["flask", "django"])
def test_a_factory_works(write, client, pool, text, name):
    with Worker(write(text), pool=pool):
        for task in ("greet", "part"):
            sent = client.send_task(task, ["ann"], queue="celery")

            assert Sent(client, sent.id).get() == [name, f"{task}-ann"]


def test_beat_sends_tasks_that_are_gated(tmp_path, redis_url, broker_url):
    schedule = {"often": {"task": "two", "schedule": 0.1, "args": ("beat", "sleep-0.3")}}
    write_app(tmp_path, broker=broker_url, backend=broker_url, store=redis_url, beat_schedule=schedule)
    with Worker(tmp_path, concurrency=4, args=["-B", "-s", str(tmp_path / "schedule")]) as worker:
        runs = Runs(tmp_path)
        runs.wait_begun("beat", 8)
        worker.kill(15)
        worker.wait_ended()

    assert runs.peak("beat") == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (UNGATED, "these tasks have a pool and are not gated: lost"),
        (SPLIT, "lost is under `pooled` of a Cachify on redis://127.0.0.1:1/5"),
        (TWO_STORES, "limits would not be shared"),
        (UNKNOWN, "unknown setting 'cachify_leese'"),
    ],
)
def test_a_worker_refuses_to_start(write, more, said):
    with Worker(write(REFUSED, more=more)).start(ready=False) as worker:
        assert worker.wait_ended() != 0

        assert said in worker.logs()
        assert " ready." not in worker.logs()


def test_prefork_works_on_a_broker_without_an_event_loop(tmp_path, redis_url, broker_url):
    for name in ("in", "control"):
        (tmp_path / name).mkdir()
    options = {
        "data_folder_in": str(tmp_path / "in"), "data_folder_out": str(tmp_path / "in"),
        "control_folder": str(tmp_path / "control"),
    }  # fmt: skip
    write_app(tmp_path, broker="filesystem://", backend=broker_url, store=redis_url, broker_transport_options=options)
    whole_files()
    client = Celery("client", broker="filesystem://", backend=broker_url, set_as_current=False)
    client.conf.broker_transport_options = options
    silence(client)
    runs = Runs(tmp_path)
    sent = [client.send_task("two", ["files", "sleep-0.1"], queue="shop") for _ in range(6)]
    with Worker(tmp_path, concurrency=3):
        assert [Sent(client, one.id).get() for one in sent] == ["sleep-0.1 done"] * 6
        assert runs.peak("files") <= 2

        killed = client.send_task("one", ["files-hard", "stubborn"], queue="shop", time_limit=1)
        runs.wait_begun("files-hard")
        follows = client.send_task("one", ["files-hard"], queue="shop")
        assert Sent(client, follows.id).get() == "ok done"
        last_tick = max(line["t"] for line in runs.all() if line["id"] == killed.id)
        assert last_tick < runs.begun("files-hard")[-1]["t"]
    client.close()
    backend: Any = client.backend
    backend.client.close()
