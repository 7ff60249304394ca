"""pytest-celery's `celery_setup` on two workers, a broker and a result backend: processes, or containers.

The plugin itself stays off (see addopts): its fixtures are imported here, and are there for this folder alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, _state
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryTestContainer,
    CeleryTestSetup,
    CeleryTestWorker,
    CeleryWorkerCluster,
    celery_backend_cluster_config,
    celery_broker_cluster_config,
    celery_setup,
    celery_setup_app,
    celery_setup_config,
    celery_setup_name,
    celery_worker_cluster_config,
)

from tests.cluster.where import IMAGE, QUEUE
from tests.support.workers import Runs, write_app

if IMAGE:
    from tests.cluster.containers import *  # noqa: F403
else:
    from tests.cluster.processes import *  # noqa: F403

# The fixtures of pytest-celery that stay as they are: pytest finds them among the names of this module.
__all__ = [
    "celery_backend_cluster_config",
    "celery_broker_cluster_config",
    "celery_setup",
    "celery_setup_app",
    "celery_setup_config",
    "celery_setup_name",
    "celery_worker_cluster_config",
]

LEASE_S = 3.0


class Setup(CeleryTestSetup):
    """Sends to the workers' queue, and leaves no connection behind."""

    @classmethod
    def update_app_config(cls, app: Celery) -> None:
        app.conf.task_default_queue = QUEUE

    def teardown(self) -> None:
        backend: Any = self.app.backend
        backend.result_consumer.stop()
        # A result that nobody asked for would still unsubscribe when it is collected, from a server that is gone.
        backend.result_consumer.cancel_for = lambda _: None
        backend.client.close()
        self.app.close()


@pytest.fixture
def celery_setup_cls() -> type[CeleryTestSetup]:
    return Setup


@pytest.fixture(autouse=True)
def same_current_app() -> Iterator[None]:
    """The app of a setup makes itself the current one; the next test shall not see it."""
    state: Any = _state
    before = state._tls.current_app
    yield
    state._tls.current_app = before


@pytest.fixture
def celery_broker_cluster(broker_container: CeleryTestContainer) -> Iterator[CeleryBrokerCluster]:
    cluster = CeleryBrokerCluster(CeleryTestBroker(broker_container))
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_backend_cluster(backend_container: CeleryTestContainer) -> Iterator[CeleryBackendCluster]:
    cluster = CeleryBackendCluster(CeleryTestBackend(backend_container))
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_worker_cluster(
    worker_containers: Sequence[CeleryTestContainer], celery_setup_app: Celery
) -> Iterator[CeleryWorkerCluster]:
    cluster = CeleryWorkerCluster(*(CeleryTestWorker(container, celery_setup_app) for container in worker_containers))
    yield cluster
    cluster.teardown()


@pytest.fixture
def shop_folder(
    tmp_path: Path, celery_broker_cluster: CeleryBrokerCluster, celery_backend_cluster: CeleryBackendCluster
) -> Path:
    """Where the workers find their `app` module and stamp their runs; its addresses are those that workers see."""
    (broker,), (backend,) = celery_broker_cluster.config()["urls"], celery_backend_cluster.config()["urls"]
    write_app(tmp_path, broker=broker, backend=backend, store=broker, queue=QUEUE, cachify_lease_ttl=LEASE_S)
    return tmp_path


@pytest.fixture
def runs(shop_folder: Path) -> Runs:
    return Runs(shop_folder)
