"""A worker does not take tasks that would keep it waiting, and none waits for itself."""

import subprocess
import sys
from typing import Any

import pytest

from cachify_tasks import CachifyPoolFullError, pool, pooled
from tests.support.apps import embedded_worker
from tests.support.shop import make_app
from tests.support.waiting import PATIENCE_S

PROGRAM = """
import sys
from celery import Celery
from cachify_tasks import Drop, Wait, pooled
from cachify_tasks.celery import setup

app = Celery("waits", broker="memory://")
setup(app, url="memory://", default_on_full={default})


@app.task(name="waits.work")
@pooled(key="p", max_size=1{on_full})
def work(): ...


worker = app.Worker(pool="solo", loglevel="ERROR")
worker.start()
sys.exit(worker.exitcode)
"""


@pytest.mark.usefixtures("worker_processes")
@pytest.mark.parametrize(
    ("default", "on_full", "named"),
    [
        ("Drop()", ", on_full=Wait(timeout=5)", "on_full of waits.work is Wait()"),
        ("Wait()", "", "default_on_full is Wait()"),
    ],
    ids=["on_full", "default_on_full"],
)
def test_a_task_that_would_wait_is_refused_when_the_worker_starts(default, on_full, named):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(default=default, on_full=on_full)],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip

    assert done.returncode != 0
    assert named in done.stderr
    assert "Give Park()" in done.stderr


@pytest.mark.parametrize("worker", ["solo", "threads"])
def test_a_task_that_waits_for_its_own_slot_fails_at_once(worker):
    app: Any = make_app("memory://", "cache+memory://", "memory://")

    @app.task(shared=False, name="own")
    @pooled("own", max_size=1)
    def own():
        pool("own", max_size=1).acquire()

    with embedded_worker(app, worker):
        sent = own.delay()
        with pytest.raises(CachifyPoolFullError, match="the caller itself holds them until this call returns"):
            sent.get(timeout=PATIENCE_S)
