"""A worker on the memory store for each test."""

import pytest

from tests.worker.fakes import Bench


@pytest.fixture
def bench() -> Bench:
    """Its tasks have one slot in the pool "p", and are parked when it is taken."""
    return Bench()
