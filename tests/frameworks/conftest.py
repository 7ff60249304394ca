"""Every framework with the same tasks; each case runs on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cachify_tasks.testing.server import EmbeddedServer
from tests.frameworks.celery_driver import CeleryDriver
from tests.frameworks.driver import Driver
from tests.frameworks.taskiq_driver import TaskiqDriver
from tests.frameworks.toy_driver import ToyDriver
from tests.support.apps import forgotten_apps

SHORT_LEASE_S = {"toy": 0.5, "celery-prefork": 3.0, "celery-spawn": 3.0, "celery-threads": 3.0, "taskiq": 3.0}
DRIVERS = list(SHORT_LEASE_S)
LONG_LEASE_S = 300.0  # longer than a test waits for anything: a slot is free because it was freed


@contextmanager
def opened(name: str, folder: Path, lease_ttl: float) -> Iterator[Driver]:
    """A driver, and the environment that its tasks need."""
    with ExitStack() as stack:
        stack.enter_context(forgotten_apps())
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("SUITE_RUNS", str(folder / "runs.jsonl"))
        if name == "toy":
            yield ToyDriver(folder, lease_ttl)
        elif name == "taskiq":
            taskiq = TaskiqDriver(folder, lease_ttl, stack.enter_context(EmbeddedServer()).url)
            stack.callback(taskiq.close)
            yield taskiq
        else:
            server = stack.enter_context(EmbeddedServer())
            driver = CeleryDriver(folder, lease_ttl, name.removeprefix("celery-"), server.url)
            stack.callback(driver.close)
            yield driver


@pytest.fixture(scope="module", params=DRIVERS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A framework with one worker, which all cases of a module share: they use keys of their own."""
    with opened(request.param, tmp_path_factory.mktemp("suite"), LONG_LEASE_S) as driver, driver.worker():
        yield driver


@pytest.fixture(params=DRIVERS)
def make_driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """A framework for this case alone; without `short` its leases are longer than any test."""
    with ExitStack() as stack:

        def make(*, short: bool = False) -> Driver:
            lease_ttl = SHORT_LEASE_S[request.param] if short else LONG_LEASE_S
            return stack.enter_context(opened(request.param, tmp_path, lease_ttl))

        yield make
