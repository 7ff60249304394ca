import timeit

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.proxy import FaultProxy
from tests.support.resp import Splitter, command_name
from tests.support.waiting import wait_until


@pytest.fixture
def direct(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def client(proxy):
    """Sends every command once, unlike redis-py's own default."""
    with redis.Redis.from_url(
        proxy.url, retry=Retry(NoBackoff(), 0), socket_timeout=2, health_check_interval=0
    ) as client:
        client.ping()
        yield client


def incr(client: redis.Redis) -> int:
    value = client.incr("counter")
    client.expire("counter", 60)
    return int(value)


def test_commands_and_bytes_are_counted_on_their_way_through(proxy, client):
    commands, replies, up = proxy.commands, proxy.replies, proxy.bytes_up

    client.set("key", "value", ex=60)

    assert proxy.commands == commands + 1
    assert proxy.replies == replies + 1
    assert proxy.bytes_up > up
    assert proxy.connections == 1


def test_latency_is_paid_each_way(proxy, client):
    proxy.latency = 0.1

    fastest = min(timeit.repeat(client.ping, number=1, repeat=5))

    assert 0.2 <= fastest < 0.4


def test_a_dropped_reply_means_the_command_ran_and_the_client_lost_its_connection(proxy, client, direct):
    proxy.drop_replies(1)

    with pytest.raises(redis.ConnectionError):
        client.set("key", "value", ex=60)

    assert direct.get("key") == b"value"
    assert proxy.dropped == 1
    assert client.ping()


def test_redis_py_sends_a_command_again_whose_reply_was_lost(proxy, direct):
    # With from_url() it would not: only the constructor sets retries.
    with redis.Redis(port=proxy.port) as client:
        client.ping()
        proxy.drop_replies(1, command="INCRBY")

        assert incr(client) == 2


def test_only_replies_to_the_command_named_are_dropped(proxy, client):
    proxy.drop_replies(1, command="incrby")

    assert client.ping()
    assert client.set("key", "value", ex=60)
    with pytest.raises(redis.ConnectionError):
        client.incr("counter")
    client.expire("counter", 60)
    assert proxy.dropped == 1


def test_of_a_pipeline_exactly_the_next_replies_are_dropped(proxy, client, direct):
    pipeline = client.pipeline(transaction=False)
    for name in ("a", "b", "c"):
        pipeline.set(name, "value", ex=60)
    proxy.drop_replies(2)

    with pytest.raises(redis.ConnectionError):
        pipeline.execute()

    assert proxy.dropped == 2
    wait_until(lambda: direct.exists("a", "b", "c") == 3)


def test_a_cut_request_never_reaches_the_server(proxy, client, direct):
    proxy.cut_requests(1, command="SET")

    with pytest.raises(redis.ConnectionError):
        client.set("key", "value", ex=60)

    assert direct.get("key") is None
    assert client.set("key", "value", ex=60)


def test_a_black_hole_times_out_and_delivers_when_healed(proxy, client, direct):
    proxy.blackhole()

    with pytest.raises(redis.TimeoutError):
        client.set("key", "value", ex=60)
    assert direct.get("key") is None

    proxy.heal()
    assert client.ping()


@pytest.mark.parametrize(("fault", "seen_as"), [("cut", "closed by server"), ("reset", "reset by peer")])
def test_an_ended_connection_is_an_error_and_a_new_one_is_welcome(proxy, client, fault, seen_as):
    connection = client.connection_pool.get_connection()

    getattr(proxy, fault)()

    with pytest.raises(redis.ConnectionError, match=f"(?i){seen_as}"):
        connection.read_response()
    connection.disconnect()
    assert client.ping()


def test_new_connections_are_refused_until_healed_and_open_ones_stay(proxy, client):
    proxy.refuse()

    assert client.ping()
    with (
        redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0)) as newcomer,
        pytest.raises(redis.ConnectionError, match="refused"),
    ):
        newcomer.ping()

    port = proxy.port
    proxy.heal()
    assert proxy.port == port
    with redis.Redis.from_url(proxy.url) as newcomer:
        assert newcomer.ping()


def test_other_protocols_pass_untouched(redis_server, redis_url):
    with (
        FaultProxy(redis_server.port, resp=False) as proxy,
        redis.Redis.from_url(proxy.url) as client,
    ):
        assert client.echo(b"\x00\r\n\xff") == b"\x00\r\n\xff"
        assert proxy.commands == 0
        assert proxy.bytes_up > 0


def test_a_large_value_passes_whole(proxy, client):
    value = b"\r\n*3$" * 200_000

    client.set("key", value, ex=60)

    assert client.get("key") == value


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_messages_are_found_however_they_are_cut(size):
    messages = [
        b"+OK\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*2\r\n*1\r\n:1\r\n$0\r\n\r\n",
        b"%1\r\n+key\r\n,1.5\r\n",
        b"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n",
        b"_\r\n",
    ]
    stream = b"".join(messages)
    splitter = Splitter()

    found = [
        message for start in range(0, len(stream), size) for message in splitter.feed(stream[start : start + size])
    ]

    assert found == messages


def test_the_name_of_a_command_is_read_in_both_its_forms():
    assert command_name(b"*1\r\n$4\r\nping\r\n") == "PING"
    assert command_name(b"INFO server\r\n") == "INFO"
