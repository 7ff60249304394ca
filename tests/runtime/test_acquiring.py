"""What `on_store_error` makes of a store that does not answer when a slot is asked for."""

import pytest

from cachify_tasks import CachifyStoreError, init_cachify, pool, pooled, testing
from cachify_tasks._core.commands import Acquire, Release
from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks.testing import StoreUnreachable
from tests.support.meddling import meddled


@pytest.fixture
def failing():
    """Makes the global instance, whose first asks for slots fail; returns what was sent."""

    def make(on_store_error, failures):
        cachify = init_cachify(on_store_error=on_store_error)
        sent = []

        def meddle(command, moment):
            if moment == "before" and not isinstance(command, Release):
                sent.append(type(command))
                if len(sent) <= failures:
                    raise CachifyStoreError("out of reach")

        meddled(cachify, meddle)
        return sent

    yield make
    set_global_runtime(None)


def reasons(seen):
    return [event.doing for event in seen if isinstance(event, StoreUnreachable)]


def test_by_default_the_error_is_raised_at_once(failing):
    sent = failing("raise", 1)

    with testing.events() as seen, pytest.raises(CachifyStoreError), pool("p", max_size=1):
        pass

    assert sent == [Acquire]
    assert reasons(seen) == []


def test_retry_asks_until_the_store_answers(failing):
    sent = failing("retry", 2)

    with testing.events() as seen, pool("p", max_size=1) as slot:
        assert slot.key == "p"

    assert sent == [Acquire] * 3
    assert reasons(seen) == ["acquiring a slot of 'p', trying again"] * 2


def test_retry_asks_no_longer_than_the_caller_waits(failing):
    sent = failing("retry", 99)

    with pytest.raises(CachifyStoreError):
        pool("p", max_size=1).acquire(timeout=0)
    assert len(sent) == 1

    with pytest.raises(CachifyStoreError):
        pool("p", max_size=1).acquire(timeout=0.1)
    assert len(sent) > 2


def test_run_goes_on_without_a_slot(failing):
    failing("run", 99)

    @pooled("p", max_size=1)
    def work():
        return "ran"

    with testing.events() as seen:
        assert work() == "ran"
        with pool("p", max_size=1) as slot:
            assert str(slot) == "None"
        assert pool("p", max_size=1).acquire(timeout=5).slot is None

    assert reasons(seen) == ["acquiring a slot of 'p', running without one"] * 3
