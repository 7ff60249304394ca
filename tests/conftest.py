"""Fixtures for every test: servers of our own, servers given, and the check for leaks."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakValueDictionary

import pytest
import redis

from cachify_tasks import Cachify, init_cachify
from cachify_tasks._runtime import policies
from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks._runtime.slot import current
from cachify_tasks.testing.server import EmbeddedServer
from tests.support.leaks import LeakCheck, allowed_leaks
from tests.support.processes import adopt_orphans
from tests.support.proxy import FaultProxy
from tests.support.servers import given_server
from tests.support.tiers import WorkerGuard, set_markers
from tests.support.workers import Worker

StartServer = Callable[..., EmbeddedServer]

SHARED_SERVERS = pytest.StashKey[list[EmbeddedServer]]()
WORKER_GUARD = pytest.StashKey[WorkerGuard]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SHARED_SERVERS] = []
    config.stash[WORKER_GUARD] = WorkerGuard()
    adopt_orphans()


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    set_markers(items)


def pytest_collection_finish() -> None:
    """What the modules have brought stays for good: each `gc.collect()` of a test need not look through it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """The guard knows which test runs, its fixtures included."""
    guard = item.config.stash[WORKER_GUARD]
    guard.item = item
    try:
        return (yield)
    finally:
        guard.item = None


@pytest.fixture(scope="session")
def worker_processes() -> type[Worker]:
    """Starts workers. A test that uses it, by itself or through another fixture, has the marker `worker`."""
    return Worker


@pytest.fixture(scope="session", autouse=True)
def only_the_main_thread_is_traced() -> None:
    """Coverage has each new thread install its tracer. Where two do so at once, CPython 3.11 kills one of them."""
    threading.settrace(None)  # as `threading` itself begins


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a thread, a process, a current slot or a key without TTL behind.

    Daemon threads may stay. Keys are looked at where `redis_url` was used. What is left for a
    reason is marked: @pytest.mark.leaks("keys", reason="...").
    """
    allowed = allowed_leaks(request.node)
    servers = request.config.stash[SHARED_SERVERS]
    check = LeakCheck()
    yield
    slot, _ = current.get(), current.set(None)
    uses_store = "redis_url" in request.fixturenames
    found = check.leaks(
        allowed=allowed,
        shared_pids=[server.pid for server in servers],
        redis_url=servers[0].url if uses_store else None,
    )
    if slot is not None:
        found.append(f"current slot: {slot}")
    if found:
        pytest.fail("left behind: " + "; ".join(found), pytrace=False)


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    """The server that the tests of this process share; not to be stopped or reconfigured."""
    with EmbeddedServer() as server:
        request.config.stash[SHARED_SERVERS].append(server)
        yield server
        request.config.stash[SHARED_SERVERS].clear()


@pytest.fixture
def _emptied_server(redis_server: EmbeddedServer) -> EmbeddedServer:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server


@pytest.fixture
def redis_url(_emptied_server: EmbeddedServer) -> str:
    """URL of an empty database on our own server, for the store; checked for leaked keys."""
    return _emptied_server.url


@pytest.fixture
def proxy(redis_server: EmbeddedServer, redis_url: str) -> Iterator[FaultProxy]:
    """A network with faults between the test and that database."""
    with FaultProxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def no_other_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody remembers the functions in pools of other modules, which a warning might name."""
    monkeypatch.setattr(policies, "_known", WeakValueDictionary())


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Sixty threads; the test ends when all of their calls have."""
    with ThreadPoolExecutor(60) as executor:
        yield executor


@pytest.fixture
def untraced() -> Iterator[None]:
    """While the test runs, no tracer sees its lines."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.fixture(params=["memory", "redis"])
def cachify(request: pytest.FixtureRequest) -> Iterator[Cachify]:
    """The global instance, on each store; `init_cachify` in a test replaces it until the test ends."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    made = init_cachify(url=url)
    yield made
    made.close()
    set_global_runtime(None)


@pytest.fixture
def cachify_on_redis(redis_url: str) -> Iterator[Cachify]:
    """The global instance, on Redis."""
    made = init_cachify(url=redis_url)
    yield made
    made.close()
    set_global_runtime(None)


@pytest.fixture
def broker_url(_emptied_server: EmbeddedServer) -> str:
    """URL of another empty database on the same server, for a broker or a result backend.

    Brokers keep keys without TTL, so this one is not checked.
    """
    return _emptied_server.url.removesuffix("/0") + "/1"


@pytest.fixture
def private_server() -> Iterator[StartServer]:
    """Starts servers for this test alone, to be stopped, killed or configured as it likes.

    Takes the options of EmbeddedServer; returns a started one, ended after the test.
    """
    started: list[EmbeddedServer] = []

    def start(**options: Any) -> EmbeddedServer:
        server = EmbeddedServer(**options)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def given_redis_url() -> str:
    """URL of somebody else's Redis (CACHIFY_TEST_REDIS_URL): never flush it, use odd key names."""
    return given_server("CACHIFY_TEST_REDIS_URL")


@pytest.fixture
def amqp_url() -> str:
    """URL of a RabbitMQ (CACHIFY_TEST_AMQP_URL): give queues odd names, and delete them."""
    return given_server("CACHIFY_TEST_AMQP_URL")
