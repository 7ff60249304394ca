from collections.abc import Iterator

import pytest

from tests.support.stores import KINDS, Store, opened


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Each store behind each of its faces, with a clock that stands until it is moved."""
    url = request.getfixturevalue("redis_url") if request.param.startswith("redis") else None
    with opened(request.param, url) as store:
        yield store
        store.drain()


@pytest.fixture
def redis_store(redis_url: str) -> Iterator[Store]:
    with opened("redis-sync", redis_url) as store:
        yield store
        store.drain()
