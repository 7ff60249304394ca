"""What depends on the server: its clock, what its user may do, whether it is a cluster."""

import redis

from cachify_tasks._core.commands import (
    Acquire,
    Claim,
    Due,
    Find,
    Pools,
    Release,
    Renew,
    Sweep,
    Ticket,
    Ticketed,
    Withdraw,
)
from cachify_tasks._store.redis_store import RedisStore
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

        assert store.execute(Pools()) == store.execute(Ticketed()) == sorted(pools)
        assert store.execute(Due()).pools == sorted(pools)
        assert store.execute(Find(pools[7], ("t",)))[0].holder == "t:0"
        assert [heir.envelope for heir in store.execute(Sweep(pool=pools[7], start_ms=60000)).heirs] == [b"\xff"]
        assert store.execute(Due()).pools == sorted(set(pools) - {pools[7]})
        assert [store.execute(Claim("reaper", 60_000)) for _ in range(2)] == [True, False]
