"""The cluster as containers: pytest-celery's Redis twice, and two workers of the image that is given."""

from __future__ import annotations

import os
from typing import Any

import pytest
from pytest_celery import CeleryTestContainer, CeleryWorkerContainer

# Fixtures, for the conftest that imports what is here.
from pytest_celery.vendors.redis.backend.fixtures import *  # noqa: F403
from pytest_celery.vendors.redis.broker.fixtures import *  # noqa: F403
from pytest_docker_tools import container, network

from tests.cluster.where import IMAGE, NAMES, QUEUE

SHOP = "/shop"


def worker_container(name: str) -> Any:
    """A fixture: one worker; the tests see its folder, and may remove what it writes there."""

    class ShopWorker(CeleryWorkerContainer):
        @classmethod
        def worker_name(cls) -> str:
            return name

        @classmethod
        def worker_queue(cls) -> str:
            return QUEUE

    return container(
        image=IMAGE,
        command=ShopWorker.command("--concurrency=2", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        environment={"SHOP_RUNS": f"{SHOP}/runs.jsonl", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        network="{default_pytest_celery_network.name}",
        volumes={"{shop_folder}": {"bind": SHOP, "mode": "rw"}},
        working_dir=SHOP,
        user=f"{os.getuid()}:{os.getgid()}",
        wrapper_class=ShopWorker,
        timeout=60,
    )


default_pytest_celery_network = network()
first_worker_container = worker_container(NAMES[0])
second_worker_container = worker_container(NAMES[1])


@pytest.fixture
def broker_container(default_redis_broker: CeleryTestContainer) -> CeleryTestContainer:
    return default_redis_broker


@pytest.fixture
def backend_container(default_redis_backend: CeleryTestContainer) -> CeleryTestContainer:
    return default_redis_backend


@pytest.fixture
def worker_containers(
    first_worker_container: CeleryTestContainer, second_worker_container: CeleryTestContainer
) -> list[CeleryTestContainer]:
    return [first_worker_container, second_worker_container]
