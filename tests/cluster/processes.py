"""The cluster as processes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.where import NAMES, QUEUE
from tests.support.local_cluster import LocalRedis, LocalWorker

__all__ = ["backend_container", "broker_container", "worker_containers"]


def running_redis(folder: Path, name: str) -> Iterator[LocalRedis]:
    server = LocalRedis(folder, name)
    server.start()
    yield server
    server.teardown()


@pytest.fixture
def broker_container(tmp_path: Path) -> Iterator[LocalRedis]:
    yield from running_redis(tmp_path, "broker")


@pytest.fixture
def backend_container(tmp_path: Path) -> Iterator[LocalRedis]:
    yield from running_redis(tmp_path, "backend")


@pytest.fixture
def worker_containers(shop_folder: Path) -> Iterator[list[LocalWorker]]:
    workers = [LocalWorker(shop_folder, name, QUEUE) for name in NAMES]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.ready()
        yield workers
    finally:
        for worker in workers:
            worker.teardown()
            print(f"--- log of {worker.name}\n{worker.logs()[-6000:]}")  # noqa: T201  # shown with a failure
