"""What the checker can be asked, and how a test fails by it."""

import pytest
import redis
import redis.asyncio

from cachify_tasks import CachifyInitError, CachifyStoreError, init_cachify, testing
from cachify_tasks._runtime.instances import set_global_runtime
from tests.support.bench import BUSY, CALM, PREFIX


def test_the_failure_lists_every_problem(bench):
    bench.client.hdel(BUSY.tickets, "ticket:c", "envelope:c")
    bench.client.hset(CALM.state, "override", 0)

    with pytest.raises(AssertionError) as failure:
        testing.assert_sound(bench.url, prefix=PREFIX)

    first, parked, full = str(failure.value).splitlines()
    assert first == "the store is not in order:"
    assert parked == "- queued-without-envelope: pool 'busy': 'c' waits, and its message is gone"
    assert full.startswith("- draining: pool 'calm': valid leases: 1, 0 of them reserved; limit: 0; 'e'; it was set at")


def test_a_note_alone_is_no_failure(bench):
    bench.client.hset(CALM.state, "override", 0)

    testing.assert_sound(bench.url, prefix=PREFIX)


def test_the_store_is_given_by_url_client_or_instance(bench, redis_url):
    bench.client.hdel(BUSY.tickets, "ticket:c", "envelope:c")
    mine = init_cachify(url=redis_url, prefix=PREFIX)
    text = redis.Redis.from_url(redis_url, decode_responses=True)
    given = [redis_url, bench.client, text, redis.asyncio.Redis.from_url(redis_url)]
    try:
        for where in given:
            assert [problem.kind for problem in testing.check(where, prefix=PREFIX)] == ["queued-without-envelope"]
            assert testing.check(where) == []  # another prefix
        assert [problem.kind for problem in testing.check(mine)] == ["queued-without-envelope"]
        assert testing.check() == testing.check(mine)
    finally:
        set_global_runtime(None)
        mine.close()
        text.close()


def test_what_cannot_be_checked_is_refused():
    set_global_runtime(None)
    with pytest.raises(TypeError, match="a store of its own"):
        testing.check("memory://")
    with pytest.raises(TypeError, match="not 7"):
        testing.check(7)
    with pytest.raises(CachifyInitError):
        testing.check()
    with pytest.raises(CachifyStoreError, match="could not be read"):
        testing.check("redis://127.0.0.1:1/0")
