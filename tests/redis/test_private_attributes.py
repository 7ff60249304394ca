"""What the connections rely on in redis-py without its promise: a release without it fails here, by the name."""

import inspect

import pytest
import redis
import redis.asyncio
from redis import exceptions
from redis._parsers.base import BaseParser

from cachify_tasks._redis.clients import new_connection

HUB = "a worker's event loop watches the socket of its connection, writes to it and reads from it"
LOOP = "an event loop's connection is redis-py's until it is greeted; then we take its transport"


@pytest.fixture
def connected(redis_url):
    client = redis.Redis.from_url(redis_url)
    connection = new_connection(client)
    connection.connect()
    yield connection
    connection.disconnect()
    client.close()


def test_sock_is_the_socket_of_a_connected_connection(connected):
    sock = connected._sock

    assert sock.fileno() >= 0, HUB
    for name in ("sendall", "recv"):
        assert callable(getattr(sock, name)), HUB


def test_sock_has_nothing_unread_after_connecting(connected):
    """What redis-py had read ahead, we would wait for in vain."""
    connected.send_packed_command((b"*1\r\n$4\r\nPING\r\n",))

    assert connected._sock.recv(64) == b"+PONG\r\n", HUB


async def test_writer_and_reader_are_the_streams_of_a_connected_asyncio_connection(redis_url):
    client = redis.asyncio.Redis.from_url(redis_url)
    connection = new_connection(client)
    await connection.connect()

    writer = connection._writer
    assert callable(writer.transport.set_protocol), LOOP
    assert connection._reader is not None, LOOP

    connection._reader = connection._writer = None
    assert not connection.is_connected, "it would close the transport that is ours now"
    writer.close()
    await writer.wait_closed()
    await client.aclose()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("NOSCRIPT no matching script", exceptions.NoScriptError),
        ("READONLY You can't write", exceptions.ReadOnlyError),
        ("LOADING Redis is loading", exceptions.BusyLoadingError),
        ("MASTERDOWN Link with MASTER is down", exceptions.MasterDownError),
        ("CLUSTERDOWN The cluster is down", exceptions.ClusterDownError),
        ("NOPERM this user has no permissions", exceptions.NoPermissionError),
        ("WRONGPASS invalid username-password pair", exceptions.AuthenticationError),
        ("ERR user_script:1: wrong", exceptions.ResponseError),
    ],
)
def test_parse_error_makes_the_exceptions_that_redis_py_raises(text, error):
    """`BaseParser.parse_error`: which error means what decides whether a command is sent again."""
    parse: object = inspect.getattr_static(BaseParser, "parse_error")

    assert isinstance(parse, classmethod)
    assert isinstance(BaseParser.parse_error(text), error)


def test_a_connection_has_the_deadline_of_its_replies(connected):
    """`socket_timeout`: after so many seconds a reply is overdue."""
    assert connected.socket_timeout is None or connected.socket_timeout > 0
