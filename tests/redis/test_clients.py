"""Clients: those given are used and left open; the other side's is derived; what is none is refused."""

import pytest
import redis
import redis.asyncio

from cachify_tasks import CachifyError, CachifyInitError, current_slot, init_cachify
from cachify_tasks._redis import clients


async def use_both_sides(cachify):
    with cachify.pool("p", max_size=2):
        async with cachify.pool("p", max_size=2):
            assert cachify.pool("p", max_size=2).size() == 2
            assert await cachify.pool("p", max_size=2).asize() == 2
    await cachify.aclose()
    cachify.close()


@pytest.mark.parametrize("decodes", [False, True], ids=["", "decode_responses"])
async def test_of_one_client_the_other_side_is_derived(redis_url, decodes):
    sync_client = redis.Redis.from_url(redis_url, decode_responses=decodes)
    async_client = redis.asyncio.Redis.from_url(redis_url, decode_responses=decodes)

    await use_both_sides(init_cachify(sync_client, is_global=False))
    await use_both_sides(init_cachify(async_client=async_client, is_global=False))
    await use_both_sides(init_cachify(sync_client, async_client, is_global=False))

    assert sync_client.ping()
    assert await async_client.ping()
    sync_client.close()
    await async_client.aclose()


async def test_values_pass_through_clients_that_decode(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        cachify = init_cachify(client, is_global=False)

        @cachify.cached("k-{n}", ttl=60)
        def value(n):
            return b"\xff" * n

        @cachify.cached("ak-{n}", ttl=60)
        async def avalue(n):
            return b"\xfe" * n

        assert value(3) == value(3) == b"\xff\xff\xff"
        assert await avalue(2) == await avalue(2) == b"\xfe\xfe"
        await cachify.aclose()
        cachify.close()


async def test_a_derived_client_takes_over_the_credentials(private_server):
    class Provider(redis.CredentialProvider):
        def get_credentials(self):
            return ("secret",)

    server = private_server(extra_args=["--requirepass", "secret"])
    for options in ({"password": "secret"}, {"credential_provider": Provider()}):
        with redis.Redis(port=server.port, **options) as client:
            await use_both_sides(init_cachify(client, is_global=False))


async def test_a_unix_socket_works_on_both_sides(private_server, tmp_path):
    path = tmp_path / "redis.sock"
    server = private_server(extra_args=["--unixsocket", str(path)])
    assert server.port

    await use_both_sides(init_cachify(url=f"unix://{path}", is_global=False))
    with redis.Redis(unix_socket_path=str(path)) as client:
        cachify = init_cachify(client, is_global=False)
        assert repr(cachify) == f"<Cachify on unix://{path}>"
        await use_both_sides(cachify)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_both_protocols_work(redis_url, protocol):
    await use_both_sides(init_cachify(url=f"{redis_url}?protocol={protocol}", is_global=False))


def test_a_bound_connection_works(redis_url):
    with redis.Redis.from_url(redis_url, single_connection_client=True) as client:
        cachify = init_cachify(client, is_global=False)
        with cachify.pool("p", max_size=1):
            current_slot().check()
        cachify.close()


@pytest.mark.parametrize(
    ("name", "client", "message"),
    [
        ("sync_client", object(), "sync_client must be a redis-py client .*, not object"),
        ("async_client", "redis://", "async_client must be a redis-py client .*, not str"),
        ("sync_client", redis.asyncio.Redis(), "sync_client must be a synchronous redis-py client"),
        ("async_client", redis.Redis(), "async_client must be an asyncio redis-py client"),
    ],
)
def test_what_is_no_client_of_its_kind_is_refused(name, client, message):
    with pytest.raises(TypeError, match=message):
        init_cachify(is_global=False, **{name: client})


def test_a_client_and_a_url_together_are_refused():
    with pytest.raises(ValueError, match="give a url or clients, not both"):
        init_cachify(redis.Redis(), url="redis://localhost", is_global=False)


def test_of_a_sentinel_client_none_can_be_derived():
    from redis.sentinel import Sentinel

    client = Sentinel([("localhost", 1)]).master_for("mymaster")

    with pytest.raises(CachifyInitError, match=r"give init_cachify\(\) both sync_client and async_client"):
        clients.async_like(client)


def test_making_an_instance_connects_to_nothing():
    cachify = init_cachify(url="redis://127.0.0.1:1", is_global=False)

    assert repr(cachify) == "<Cachify on redis://127.0.0.1:1>"
    with pytest.raises(CachifyError, match="ConnectionError"), cachify.pool("p", max_size=1):
        pass
