"""What depends on the server: its clock, what its user may do, whether it is a cluster."""

import re
from pathlib import Path

import pytest
import redis
from redis.exceptions import MovedError

from cachify_tasks import init_cachify
from cachify_tasks._core.commands import Acquire, Find, Release, Renew, Sweep, Ticket, Withdraw
from cachify_tasks._core.key_commands import Claim, Due, Locate, Pools
from cachify_tasks._store.interface import ServerFacts
from cachify_tasks._store.redis_store import RedisStore
from cachify_tasks.errors import CachifyPoolFullError, CachifyStoreError
from tests.support.stores import POOL, opened
from tests.support.waiting import wait_until


async def test_the_servers_clock_decides_when_a_reaper_is_due(redis_url):
    store = RedisStore("t", redis_url)
    token = store.execute(Acquire(pool=POOL, holder="a", request_id="a", limit=1, lease_ms=2000, start_ms=1000)).token
    store.execute(
        Acquire(
            pool=POOL,
            holder="b",
            request_id="b",
            limit=1,
            lease_ms=2000,
            start_ms=1000,
            ticket=Ticket(kind="task/test", envelope=b"message"),
        )
    )
    assert store.execute(Due()).pools == (await store.aexecute(Due())).pools == []

    wait_until(lambda: store.execute(Due()).pools == [POOL])

    assert (await store.aexecute(Due())).pools == [POOL]
    assert store.execute(Renew(pool=POOL, holder="a", token=token, lease_ms=60000)).status == "renewed"
    assert store.execute(Due()).pools == (await store.aexecute(Due())).pools == []
    store.execute(Withdraw(pool=POOL, holder="b", start_ms=1000, tomb_ms=1000))
    await store.aclose()
    store.close()


def test_slots_are_reserved_for_waiters_of_a_user_who_may_not_publish(private_server):
    server = private_server()
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", "nopass", "~*", "+@all", "resetchannels")
    url = server.url.replace("//", "//app:any@")
    with opened("redis-sync", url) as store:
        token = store.plain("a").token
        store.wait("w", request_id="r")

        assert store.release("a", token).status == "released"
        assert store.wait("w", request_id="r").status == "granted"


def test_a_cluster_answers_for_pools_of_all_its_slots(private_server):
    server = private_server(extra_args=["--cluster-enabled", "yes"])
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        wait_until(lambda: client.cluster("INFO")["cluster_state"] == "ok")
    with redis.RedisCluster.from_url(server.url) as cluster:
        store = RedisStore("t", sync_client=cluster)
        pools = [f"pool {number}" for number in range(20)]
        for pool in pools:
            token = store.execute(
                Acquire(pool=pool, holder="a", request_id="a", limit=1, lease_ms=60000, start_ms=60000)
            ).token
            store.execute(
                Acquire(
                    pool=pool,
                    holder="t:0",
                    request_id="b",
                    limit=1,
                    lease_ms=60000,
                    start_ms=60000,
                    ticket=Ticket(kind="task/test", envelope=b"\xff", task_id="t"),
                )
            )
            store.execute(Release(pool=pool, holder="a", token=token, request_id="a", start_ms=60000, tomb_ms=60000))

        assert store.execute(Pools()) == sorted(pools)
        assert store.execute(Due()).pools == sorted(pools)
        assert store.execute(Find(pools[7], ("t",)))[0].holder == "t:0"
        assert store.execute(Locate(("t", "nobody"))).keys() == {"t"}  # on a cluster from 256 indexes
        assert [heir.envelope for heir in store.execute(Sweep(pool=pools[7], start_ms=60000)).heirs] == [b"\xff"]
        assert store.execute(Due()).pools == sorted(set(pools) - {pools[7]})
        assert [store.execute(Claim("reaper", 60_000)) for _ in range(2)] == [True, False]


# How the server is set up


@pytest.mark.parametrize(
    ("options", "persistent"),
    [({}, False), ({"append_only": True}, True), ({"extra_args": ["--save", "60 1"]}, True)],
    ids=["nothing", "appendonly", "save"],
)
def test_a_store_tells_whether_a_restart_loses_parked_tasks(private_server, options, persistent):
    store = RedisStore("t", private_server(**options).url)

    assert store.server() == ServerFacts("noeviction", persistent)
    store.close()


def test_a_server_that_tells_nothing_is_warned_of_for_nothing(private_server):
    server = private_server()
    with redis.Redis.from_url(server.url) as client:
        client.acl_setuser("mute", enabled=True, nopass=True, commands=["+@all", "-info"], keys=["*"])
    store = RedisStore("t", server.url.replace("redis://", "redis://mute:@"))

    assert store.server() == ServerFacts()
    store.close()


def test_the_url_of_a_cluster_node_is_refused(private_server, tmp_path):
    server = private_server(extra_args=["--cluster-enabled", "yes", "--cluster-config-file", str(tmp_path / "nodes")])
    store = RedisStore("t", server.url)

    with pytest.raises(CachifyStoreError, match=r"is a node of a Redis Cluster, .* give sync_client=RedisCluster"):
        store.server()
    store.close()


def test_a_key_that_another_node_of_the_cluster_has_is_an_error_that_says_so():
    store = RedisStore("t", "redis://localhost:1/0")

    assert "is a node of a Redis Cluster" in str(store.failure(MovedError("3999 127.0.0.1:6381")))


# Access rules


def acl_of_the_docs(client: redis.Redis, password: str) -> None:
    """Make the user of the rule that the documentation gives."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "store-outage.md"
    for rule in re.findall(r"ACL SETUSER .*", page.read_text()):
        client.execute_command(*rule.replace(">secret", f">{password}").split())


@pytest.fixture
def acl_url(private_server) -> str:
    server = private_server()
    with redis.Redis.from_url(server.url) as client:
        acl_of_the_docs(client, "pass")
    return str(server.url).replace("redis://", "redis://cachify:pass@")


async def test_the_access_rule_of_the_docs_is_enough(acl_url):
    cachify = init_cachify(url=acl_url, is_global=False)
    narrow = cachify.pool("p", max_size=1)
    with narrow, pytest.raises(CachifyPoolFullError):
        narrow.acquire(timeout=1.5)  # subscribed, and woken by nobody
    async with narrow:
        with pytest.raises(CachifyPoolFullError):
            await narrow.aacquire(timeout=0.1)
    store = cachify._runtime.store
    assert store.execute(Pools()) == store.execute(Due()).pools == []
    assert store.execute(Claim("c", 1000))
    assert store.server() == ServerFacts("noeviction", persistent=False)
    assert isinstance(store, RedisStore)
    with redis.Redis.from_url(acl_url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.flushall()
    await cachify.aclose()
    cachify.close()


def test_a_user_without_the_keys_is_told_which_ones_are_needed(acl_url):
    cachify = init_cachify(url=acl_url, prefix="OTHER-", is_global=False)

    with pytest.raises(CachifyStoreError) as caught, cachify.pool("p", max_size=1):
        pass

    text = str(caught.value)
    assert "does not permit this user what it needs (keys {OTHER-}:*, channels OTHER-:1:wakeups:*)" in text
    assert "refused the credentials" not in text
    cachify.close()
