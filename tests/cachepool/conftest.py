from collections.abc import Iterator

import pytest

from tests.cachepool.things import Things


@pytest.fixture(params=["threads", "coroutines"])
def things(request: pytest.FixtureRequest) -> Iterator[Things]:
    """Things for each kind of pool; what a test leaves open fails it."""
    made = Things(request.param)
    yield made
    made.end()
