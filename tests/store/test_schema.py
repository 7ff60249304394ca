"""Which version and layout of keys a store has is written down there, and clients of another one are refused."""

import asyncio
import os

import pytest
import redis

from cachify_tasks import CachifyInitError, CachifyStoreError, init_cachify
from cachify_tasks._core.commands import Size
from cachify_tasks._core.key_commands import Claim, Get, Ping
from cachify_tasks._core.keys import Schema
from cachify_tasks._store import redis_store as store_module
from cachify_tasks._store.key_commands import MARKER_TTL_MS
from cachify_tasks._store.redis_store import RedisStore
from tests.support.waiting import wait_until

MARKER = Schema("t").marker
COMMAND = Size("p")


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def pings(client):
    return client.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"]


def test_the_first_client_writes_down_version_and_layout_for_a_time(client, redis_url):
    store = RedisStore("t", redis_url)

    store.execute(COMMAND)

    assert client.get(MARKER) == b"1 single"
    assert MARKER_TTL_MS - 60_000 < client.pttl(MARKER) <= MARKER_TTL_MS
    store.close()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("2 single", "schema version 2, and this cachify_tasks has 1"),
        ("1 cluster", "the layout 'cluster', and this client uses 'single': give all programs a RedisCluster client"),
    ],
)
@pytest.mark.parametrize("command", [COMMAND, Ping(), Get("k"), Claim("c", 1000)], ids=lambda c: type(c).__name__)
def test_a_store_of_another_version_or_layout_is_refused_at_the_first_use(client, redis_url, found, message, command):
    client.set(MARKER, found, ex=60)
    store = RedisStore("t", redis_url)

    for _ in range(2):
        with pytest.raises(CachifyInitError, match=message):
            store.execute(command)
        with pytest.raises(CachifyInitError, match=message):
            store.execute_many([COMMAND, COMMAND])

    assert client.get(MARKER) == found.encode()
    store.close()


async def test_it_is_refused_in_an_event_loop_too(client, redis_url):
    client.set(MARKER, "2 single", ex=60)
    store = RedisStore("t", redis_url)

    with pytest.raises(CachifyInitError, match="schema version 2"):
        await store.aexecute(COMMAND)
    with pytest.raises(CachifyInitError, match="schema version 2"):
        await store.begin(COMMAND)

    await store.aclose()
    store.close()


def test_a_program_sees_the_error_whatever_it_does_about_outages(client, redis_url):
    client.set(Schema("PYC-").marker, "1 cluster", ex=60)
    cachify = init_cachify(url=redis_url, is_global=False, on_store_error="run")

    with pytest.raises(CachifyInitError, match="RedisCluster"), cachify.pool("p", max_size=1):
        pass

    cachify.close()


def test_a_process_asks_once_and_not_for_each_command(client, redis_url):
    store = RedisStore("t", redis_url)
    before = pings(client)

    async def use() -> None:
        await asyncio.gather(*(store.aexecute(COMMAND) for _ in range(5)))
        await store.begin(COMMAND)
        await store.aclose()

    store.execute(COMMAND)
    for _ in range(3):
        store.execute(COMMAND)
        store.execute_many([COMMAND, COMMAND])
        asyncio.run(use())

    assert pings(client) - before == 1
    store.close()


def test_a_forked_child_relies_on_what_its_parent_has_found(client, redis_url):
    store = RedisStore("t", redis_url)
    store.execute(COMMAND)
    before = pings(client)

    child = os.fork()
    if child == 0:
        store.reset_after_fork()
        os._exit(store.execute(COMMAND))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pings(client) == before
    store.close()


def test_a_store_that_was_emptied_learns_its_version_again_and_a_lost_one_is_noticed(client, redis_url, monkeypatch):
    monkeypatch.setattr(store_module, "PING_EVERY", 0.05)
    store = RedisStore("t", redis_url)
    store.execute(COMMAND)
    client.flushall()

    wait_until(lambda: store.execute(COMMAND) == 0 and client.get(MARKER) == b"1 single")

    client.set(MARKER, "2 single", ex=60)
    with pytest.raises(CachifyInitError):
        wait_until(lambda: store.execute(COMMAND) != 0)
    store.close()


def test_a_failed_ping_is_an_error_of_the_store_and_is_tried_again(redis_url, private_server):
    server = private_server()
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", "nopass", "~*", "+@all", "-eval")
        store = RedisStore("t", server.url.replace("//", "//app:any@"))

        with pytest.raises(CachifyStoreError, match="does not permit this user"):
            store.execute(Ping())

        client.execute_command("ACL", "SETUSER", "app", "+eval")
        assert store.execute(Ping()) is None
        store.close()


def test_a_ping_asks_the_server_each_time(client, redis_url):
    store = RedisStore("t", redis_url)
    before = pings(client)

    for _ in range(3):
        store.execute(Ping())

    assert pings(client) - before == 3
    store.close()


async def test_an_asynchronous_ping_asks_the_server_each_time(client, redis_url):
    store = RedisStore("t", redis_url)
    before = pings(client)

    for _ in range(3):
        await store.aexecute(Ping())

    assert pings(client) - before == 3
    await store.aclose()
    store.close()


def test_clients_of_a_cluster_and_others_refuse_to_share_a_prefix(private_server):
    server = private_server(extra_args=["--cluster-enabled", "yes"])
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        wait_until(lambda: client.cluster("INFO")["cluster_state"] == "ok")
    with redis.RedisCluster.from_url(server.url) as cluster:
        clustered, single = RedisStore("t", sync_client=cluster), RedisStore("t", server.url)
        clustered.execute(COMMAND)

        with pytest.raises(CachifyInitError, match="layout 'cluster', and this client uses 'single'"):
            single.execute(COMMAND)

        assert cluster.get(MARKER) == b"1 cluster"
        single.close()
