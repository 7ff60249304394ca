import pytest
import redis
from kombu import Connection

from tests.support.servers import given_server
from tests.support.waiting import await_until, wait_until


def test_a_missing_server_is_skipped_unless_servers_are_required(monkeypatch):
    for name in ("CI", "CACHIFY_TEST_REQUIRE", "CACHIFY_TEST_NOWHERE_URL"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(pytest.skip.Exception, match="set CACHIFY_TEST_NOWHERE_URL"):
        given_server("CACHIFY_TEST_NOWHERE_URL")

    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no skip"):
        given_server("CACHIFY_TEST_NOWHERE_URL")


def test_a_server_that_was_given_and_does_not_answer_fails(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("CACHIFY_TEST_NOWHERE_URL", "amqp://guest:guest@127.0.0.1:1//")

    with pytest.raises(pytest.fail.Exception, match="does not answer"):
        given_server("CACHIFY_TEST_NOWHERE_URL")


def test_the_redis_that_was_given_answers(given_redis_url):
    with redis.Redis.from_url(given_redis_url) as client:
        assert client.ping()


def test_the_rabbitmq_that_was_given_answers(amqp_url):
    with Connection(amqp_url) as connection:
        connection.ensure_connection(max_retries=1, timeout=5)

        assert connection.connected


async def test_waiting_ends_with_the_answer_or_with_what_was_waited_for():
    assert wait_until(lambda: "answer") == "answer"
    assert await await_until(lambda: "answer") == "answer"

    with pytest.raises(AssertionError, match=r"not within 0.02 s: the moon \(last answer: 0\)"):
        wait_until(lambda: 0, 0.02, "the moon")
    with pytest.raises(AssertionError, match="the moon"):
        await await_until(lambda: 0, 0.02, "the moon")
