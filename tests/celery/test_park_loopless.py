"""Parked tasks in workers without an event loop: brokers such as memory and filesystem."""

import contextlib
import time
from typing import Any

import pytest
from celery import Celery

from cachify_tasks import pool
from cachify_tasks._core.commands import Inspect
from cachify_tasks._core.key_commands import Pools
from cachify_tasks.celery.app import _states, runtime_of
from cachify_tasks.celery.gate import Gate
from tests.celery.conftest import Sent
from tests.support.apps import embedded_worker
from tests.support.shop import make_app
from tests.support.waiting import PATIENCE_S, wait_until
from tests.support.workers import Runs, open_gate, write_app


def test_a_worker_in_the_same_process_runs_parked_tasks(embedded_app):
    store = runtime_of(embedded_app).store
    with pool("park-embedded", max_size=1):
        sent = [embedded_app.tasks["park_first"].delay("embedded", n) for n in range(20)]
        wait_until(lambda: store.execute(Inspect("park-embedded")).waiting >= 20)

    assert [one.get(timeout=PATIENCE_S) for one in sent] == list(range(20))
    wait_until(lambda: not store.execute(Pools()))


def test_a_solo_worker_calls_the_next_task_before_it_asks_its_broker_for_messages(monkeypatch):
    def slowly(*args: Any) -> None:
        time.sleep(0.05)  # so long may a broker take
        send(*args)

    send = Gate.hint
    monkeypatch.setattr(Gate, "hint", slowly)
    pause = 1.0  # between two looks at an empty queue: twenty of them were far over the time limit below
    app = make_app("memory://", "cache+memory://", "memory://", broker_transport_options={"polling_interval": pause})
    with embedded_worker(app, "solo"):
        with pool("park-embedded", max_size=1):
            sent = [app.tasks["park_first"].delay("embedded", n) for n in range(20)]
            wait_until(lambda: runtime_of(app).store.execute(Inspect("park-embedded")).waiting >= 20)
        assert [one.get(timeout=10 * pause) for one in sent] == list(range(20))


@pytest.mark.parametrize("kind", ["prefork", "solo", "threads"])
def test_parked_tasks_run_over_a_broker_of_files(worker_processes, tmp_path, redis_url, broker_url, kind):
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    options = {
        "data_folder_in": str(tmp_path / "queue"), "data_folder_out": str(tmp_path / "queue"),
        "control_folder": str(tmp_path / "control"),
    }  # fmt: skip
    conf = {"broker": "filesystem://", "backend": broker_url, "store": redis_url, "broker_transport_options": options}
    write_app(tmp_path, **conf)
    app: Celery = make_app(**conf)
    runs = Runs(tmp_path)
    with contextlib.closing(app), worker_processes(tmp_path, pool=kind, args=["--without-gossip"]) as worker:
        gate = "" if kind == "solo" else "files.go"
        first = app.tasks["park"].delay("files", "ok", gate)
        runs.wait_begun("files")
        sent = [Sent(app, app.tasks["park"].delay("files").id) for _ in range(6)]
        if gate:
            store = runtime_of(app).store
            wait_until(lambda: store.execute(Inspect("park-files")).waiting == 6)
        open_gate(tmp_path, "files.go")

        assert [one.get() for one in sent] == ["ok done"] * 6
        assert sorted(line["id"] for line in runs.begun("files")) == sorted([first.id, *(one.id for one in sent)])
        assert runs.peak("files") == 1
        assert "Traceback" not in worker.logs()
    backend: Any = app.backend
    backend.client.close()
    _states.pop(app, None)
