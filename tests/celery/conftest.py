"""A shop: its server, its folder, the app that sends its tasks; workers are started by the tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.states import READY_STATES

from cachify_tasks import testing
from cachify_tasks._core.commands import Inspect
from cachify_tasks._core.key_commands import Pools
from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks.celery.app import _states, runtime_of
from cachify_tasks.testing.server import EmbeddedServer
from tests.celery.prefork_bench import PreforkBench
from tests.support.apps import embedded_worker, forgotten_apps
from tests.support.leaks import keys_without_ttl
from tests.support.shop import make_app
from tests.support.waiting import PATIENCE_S, wait_until
from tests.support.workers import Runs, Worker, open_gate, write_app

LEASE_S = 300.0


class Sent:
    """A task that was sent; asks for its result without subscribing, so that servers may come and go."""

    def __init__(self, app: Celery, task_id: str) -> None:
        self._app, self.id = app, task_id

    @property
    def meta(self) -> dict[str, Any]:
        backend: Any = self._app.backend
        return dict(backend.get_task_meta(self.id, cache=False))

    @property
    def state(self) -> str:
        return str(self.meta["status"])

    def get(self, timeout: float = PATIENCE_S) -> Any:
        """Its result; its error is raised."""
        wait_until(lambda: self.state in READY_STATES, timeout, f"the end of {self.id}, which is {self.state}")
        result = self.meta["result"]
        if isinstance(result, BaseException):
            raise result
        return result


def silence(app: Celery) -> None:
    """Keep this app from subscribing to results."""
    backend: Any = app.backend
    quiet = dict.fromkeys(("start", "stop", "consume_from", "cancel_for"), lambda *_, **__: None)
    backend.result_consumer = SimpleNamespace(**quiet, drainer=SimpleNamespace(**quiet))


class Shop:
    """One folder with an `app` module, one server for its store (db 0), broker and results (db 1).

    Its leases are longer than a test waits for anything, if nothing else is said: a slot is free because it was freed.
    """

    def __init__(self, folder: Path, store_url: str, broker_url: str, backend_url: str = "", **conf: Any) -> None:
        self.folder, self.store_url, self.broker_url = folder, store_url, broker_url
        self.options: dict[str, Any] = {"broker": broker_url, "backend": backend_url or broker_url, "store": store_url}
        self.options |= {"cachify_lease_ttl": LEASE_S, **conf}
        write_app(folder, **self.options)
        self.app: Celery = make_app(**self.options)
        silence(self.app)
        self.runs = Runs(folder)

    worker_log: Any = None  # where a fixture puts them
    free: Any = None

    def worker(self, **options: Any) -> Worker:
        return Worker(self.folder, **options)

    def send(self, name: str, *args: Any, **options: Any) -> Sent:
        return self.sent(self.app.tasks[name].apply_async(args=args, **options))

    def sent(self, result: Any) -> Sent:
        return Sent(self.app, result.id)

    def open(self, gate: str) -> None:
        open_gate(self.folder, gate)

    def size(self, name: str, *args: Any) -> int:
        task: Any = self.app.tasks[name]
        return int(task.size(*args))

    def parked(self) -> int:
        """How many tasks wait in queues of pools."""
        store = runtime_of(self.app).store
        return sum(int(store.execute(Inspect(name)).waiting) for name in store.execute(Pools()))

    def wait_parked(self, count: int) -> None:
        wait_until(lambda: self.parked() == count, PATIENCE_S, f"{count} parked tasks")

    def wait_quiet(self) -> None:
        """Until the store holds no slot and no ticket; then it must be in order."""
        store = runtime_of(self.app).store
        wait_until(lambda: not store.execute(Pools()), message="no slot and no ticket")
        testing.assert_sound(self.store_url, settled=True)

    def obeyed(self, command: str, *args: Any) -> None:
        """Give the only worker a remote command; returns when it has answered."""
        assert getattr(self.app.control, command)(*args, reply=True, limit=1, timeout=PATIENCE_S)

    def lease_left(self, pool: str) -> float:
        """Seconds that the slot of the only holder still has."""
        (holder,) = runtime_of(self.app).store.execute(Inspect(pool)).holders
        return float(holder.expires_in)

    def ids(self, key: str) -> list[str]:
        """Of the runs of this key, in the order of their beginning."""
        return [str(line["id"]) for line in self.runs.begun(key)]

    def wait_state(self, result: Sent, *states: str) -> str:
        wait_until(lambda: result.state in states, PATIENCE_S, f"{states}, and it is {result.state}")
        return str(result.state)

    def close(self) -> None:
        self.app.close()
        backend: Any = self.app.backend
        backend.client.close()
        set_global_runtime(None)
        _states.pop(self.app, None)


@pytest.fixture(autouse=True)
def nothing_global() -> Iterator[None]:
    with forgotten_apps():
        yield


@pytest.fixture(params=["solo", "threads"])
def embedded_app(request: pytest.FixtureRequest) -> Iterator[Celery]:
    """An app whose worker runs in the test's own process, with the memory of that process as its store."""
    app = make_app("memory://", "cache+memory://", "memory://")
    with embedded_worker(app, request.param, concurrency=3):
        yield app


@pytest.fixture(scope="module")
def shared_server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture(scope="module")
def make_shared_shop(
    worker_processes: type[Worker], shared_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Shop]]:
    """Makes the one shop of a module; when the module ends no key of the store may live for ever."""
    made: list[Shop] = []

    def make(**conf: Any) -> Shop:
        broker = shared_server.url.removesuffix("/0") + "/1"
        made.append(Shop(tmp_path_factory.mktemp("shop"), shared_server.url, broker, **conf))
        return made[-1]

    yield make
    for shop in made:
        shop.close()
    assert keys_without_ttl(shared_server.url) == []


@pytest.fixture
def make_shop(worker_processes: type[Worker], make_client_shop: Callable[..., Shop]) -> Callable[..., Shop]:
    """Makes a shop for this test alone, which starts its workers."""
    return make_client_shop


@pytest.fixture
def make_client_shop(tmp_path: Path, redis_url: str, broker_url: str) -> Iterator[Callable[..., Shop]]:
    """Makes a shop for this test alone, which starts no worker."""
    made: list[Shop] = []

    def make(**conf: Any) -> Shop:
        options = {"store_url": redis_url, "broker_url": broker_url} | conf
        made.append(Shop(tmp_path, **options))
        return made[-1]

    yield make
    for shop in made:
        shop.close()


@pytest.fixture
def make_bench() -> Iterator[Callable[..., PreforkBench]]:
    """Makes a prefork worker that the test moves by hand."""
    made: list[PreforkBench] = []

    def make(**options: Any) -> PreforkBench:
        made.append(PreforkBench(**options))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., PreforkBench]) -> PreforkBench:
    return make_bench()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs until it is killed."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()
