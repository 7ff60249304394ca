"""A network that loses replies, or is away for a while, costs no slot."""

import time

import pytest

from cachify_tasks import init_cachify, pool
from cachify_tasks._runtime.lease_renewer import lease_renewer


@pytest.fixture
def proxied(proxy):
    """The network of the global instance; it goes wrong on demand."""
    cachify = init_cachify(url=f"{proxy.url}?socket_timeout=2&socket_connect_timeout=2")
    with pool("warm", max_size=1):
        pass
    yield proxy
    proxy.heal()
    cachify.close()
    lease_renewer.stop()


def test_an_acquire_whose_reply_is_lost_has_exactly_one_slot(proxied):
    p = pool("p", max_size=2)
    proxied.drop_replies(1, command="EVALSHA")

    with p as slot:
        assert proxied.dropped == 1
        assert p.size() == 1
        slot.check()
    assert p.size() == 0


def test_an_acquire_that_is_tried_again_after_an_outage_has_exactly_one_slot(proxied):
    init_cachify(url=f"{proxied.url}?socket_timeout=2", on_store_error="retry")
    p = pool("p", max_size=2)
    assert p.size() == 0
    proxied.drop_replies(3, command="EVALSHA")  # as many as one command is sent

    with p as slot:
        assert proxied.dropped == 3
        assert p.size() == 1
        slot.check()
    assert p.size() == 0


def test_a_release_whose_reply_is_lost_frees_exactly_one_slot(proxied, caplog):
    p = pool("p", max_size=2)
    with p:
        with p:
            proxied.drop_replies(1, command="EVALSHA")
        assert proxied.dropped == 1
        assert p.size() == 1
    assert "lost" not in caplog.text


async def test_an_async_acquire_whose_reply_is_lost_has_exactly_one_slot(proxied):
    p = pool("p", max_size=2)
    async with p:
        proxied.drop_replies(1, command="EVALSHA")
        async with p:
            assert proxied.dropped == 1
            assert await p.asize() == 2
    assert await p.asize() == 0


def test_a_lease_outlives_a_short_outage(proxy):
    cachify = init_cachify(url=f"{proxy.url}?socket_timeout=0.5", lease_ttl=4.5, is_global=False)
    with cachify.pool("p", max_size=1) as slot:
        proxy.reset()
        proxy.refuse()
        time.sleep(1.8)  # a third of a lease and more: it is renewed in vain
        proxy.heal()
        time.sleep(3.2)

        slot.check()
    cachify.close()
    lease_renewer.stop()
