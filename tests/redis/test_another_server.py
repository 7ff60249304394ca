"""A server that became a replica, or that loads its data, is left for the one that its name leads to now."""

import threading

import pytest
import redis
from redis import exceptions

from cachify_tasks import CachifyStoreError
from cachify_tasks._core.commands import Acquire, Release, Size
from cachify_tasks._core.key_commands import Claim, Get, Put
from cachify_tasks._redis.retry import means_another_server
from cachify_tasks._store.redis_store import RedisStore
from tests.redis.test_hub_connection import Loop
from tests.support.proxy import FaultProxy
from tests.support.waiting import wait_until


def ask(name: str) -> Acquire:
    return Acquire(pool="p", holder=name, request_id=name, limit=100, lease_ms=30_000, start_ms=5_000)


@pytest.fixture
def servers(private_server):
    """The master of before, which is the other one's replica from now on, and the master of now."""
    before, now = private_server(), private_server()
    with FaultProxy(before.port) as name, redis.Redis.from_url(before.url) as client:

        def fail_over(*, moved: bool) -> None:
            client.execute_command("REPLICAOF", "127.0.0.1", now.port)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")
            if moved:
                name.target_port = now.port

        yield name, fail_over


@pytest.mark.parametrize("error", [
    exceptions.ReadOnlyError("You can't write against a read only replica."),
    exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
    exceptions.MasterDownError("Link with MASTER is down"),
    exceptions.ClusterDownError("The cluster is down"),
    exceptions.ResponseError("Error running script (call to f_1): @user_script:1: -READONLY You can't write"),
])  # fmt: skip
def test_such_errors_mean_another_server_bare_or_wrapped_by_a_script(error):
    assert means_another_server(error)


@pytest.mark.parametrize("reply", [b"READONLY ", None, 7, exceptions.ResponseError("READONLY is what a user wrote")])
def test_other_replies_do_not(reply):
    assert not means_another_server(reply)


def test_a_thread_asks_the_new_master(servers):
    name, fail_over = servers
    store = RedisStore("moved", name.url)
    assert store.execute(ask("a")).status == "granted"

    fail_over(moved=True)

    assert store.execute(ask("b")).status == "granted"
    assert [getattr(reply, "status", reply) for reply in store.execute_many([ask("c"), ask("d")])] == ["granted"] * 2
    store.close()


def test_a_thread_that_finds_no_other_server_gets_a_store_error(servers):
    name, fail_over = servers
    store = RedisStore("moved", name.url)
    store.execute(ask("a"))

    fail_over(moved=False)

    with pytest.raises(CachifyStoreError, match="read only replica"):
        store.execute(ask("b"))
    store.close()


async def test_an_event_loop_asks_the_new_master(servers):
    name, fail_over = servers
    store = RedisStore("moved", name.url)
    assert (await store.aexecute(ask("a"))).status == "granted"

    fail_over(moved=True)

    assert (await store.aexecute(ask("b"))).status == "granted"
    assert (await store.begin(ask("c"))).status == "granted"
    await store.aclose()


async def test_an_event_loop_that_finds_no_other_server_gets_a_store_error(servers):
    name, fail_over = servers
    store = RedisStore("moved", name.url)
    await store.aexecute(ask("a"))

    fail_over(moved=False)

    with pytest.raises(CachifyStoreError, match="read only replica"):
        await store.aexecute(ask("b"))
    await store.aclose()


def test_a_worker_s_loop_asks_the_new_master_all_of_its_batch(servers):
    name, fail_over = servers
    loop = Loop(name.url)
    loop.send(ask("a"))
    loop.turn_until(1)
    token = loop.answers[0][0].token

    fail_over(moved=True)
    release = Release(pool="p", holder="a", token=token, request_id="a", start_ms=5_000, tomb_ms=5_000)
    loop.send(release, ask("b"))
    loop.send(ask("c"))
    loop.turn_until(3)

    statuses = [reply.status for replies in loop.answers[1:] for reply in replies]
    assert statuses == ["lost", "granted", "granted"]  # the new master has never heard of the slot
    loop.close()


def test_a_worker_s_loop_that_finds_no_other_server_gets_a_store_error(servers):
    name, fail_over = servers
    loop = Loop(name.url)
    loop.send(ask("a"))
    loop.turn_until(1)

    fail_over(moved=False)
    loop.send(ask("b"))
    loop.turn_until(2)

    assert isinstance(loop.answers[1], CachifyStoreError)
    loop.close()


def test_our_connections_do_not_count_against_a_given_client_s_most(redis_url):
    client = redis.Redis.from_url(redis_url, max_connections=1)
    store = RedisStore("counted", sync_client=client)
    threads = [threading.Thread(target=store.execute, args=(ask(str(n)),)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.execute(Size("p")) == 20
    assert client.ping()
    store.close()
    client.close()


def test_idle_connections_are_closed_after_a_burst(redis_url, threads, monkeypatch):
    store = RedisStore("burst", redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("CLIENT PAUSE", 60_000, "WRITE")  # so that each thread needs a connection of its own
        burst = [threads.submit(store.execute, ask(str(n))) for n in range(8)]
        wait_until(lambda: client.info("clients")["connected_clients"] > 8)
        client.execute_command("CLIENT UNPAUSE")
        assert [call.result().status for call in burst] == ["granted"] * 8
        monkeypatch.setattr("cachify_tasks._redis.sync_connection.IDLE_S", 0.0)

        for _ in range(100):
            store.execute(Size("p"))

        wait_until(lambda: client.info("clients")["connected_clients"] <= 3)
    store.close()


def test_key_commands_ask_the_new_master_too(servers):
    name, fail_over = servers
    store = RedisStore("moved", name.url)
    store.execute(Put("a", b"before", 60_000))

    fail_over(moved=True)

    store.execute(Put("b", b"now", 60_000))
    assert store.execute(Get("b")) == b"now"
    assert store.execute(Claim("round", 10_000))
    store.close()


async def test_key_commands_of_an_event_loop_ask_the_new_master_too(servers):
    name, fail_over = servers
    store = RedisStore("moved", name.url)
    await store.aexecute(Put("a", b"before", 60_000))

    fail_over(moved=True)

    await store.aexecute(Put("b", b"now", 60_000))
    assert await store.aexecute(Get("b")) == b"now"
    await store.aclose()
