from collections.abc import Iterator

import pytest
import redis

from tests.support.bench import Bench


@pytest.fixture
def bench(redis_url) -> Iterator[Bench]:
    with redis.Redis.from_url(redis_url) as client:
        bench = Bench(redis_url, client)
        yield bench
        bench.store.close()
        client.flushdb()
