"""A store behind TLS, by each of the ways to it. Answers larger than a TLS record come whole."""

import asyncio
import selectors
from typing import Any

import pytest

from cachify_tasks import CachifyStoreError
from cachify_tasks._core.commands import Acquire, Release, Size, Ticket, Withdraw
from cachify_tasks._redis.hub_connection import HubConnection
from cachify_tasks._store.redis_store import RedisStore
from tests.support.tls import tls_front

LARGE = b"x" * 100_000


@pytest.fixture
def front(redis_server, redis_url, tmp_path):
    with tls_front(redis_server.port, tmp_path) as front:
        yield front
    plain = RedisStore("tls", redis_url)
    plain.execute(Withdraw(pool="p", holder="b", start_ms=5000, tomb_ms=5000))
    plain.close()


@pytest.fixture
def store(front):
    store = RedisStore("tls", front.url())
    yield store
    store.close()


def park(name: str, envelope: bytes = b"") -> Acquire:
    return Acquire(
        pool="p",
        holder=name,
        request_id=name,
        limit=1,
        lease_ms=30000,
        start_ms=5000,
        first_delivery=True,
        ticket=Ticket(kind="task/test", envelope=envelope, park=bool(envelope)),
    )


def hand_over(token: int) -> Release:
    return Release(pool="p", holder="a", token=token, request_id="a", start_ms=5000, tomb_ms=5000, can_start_heirs=True)


def test_a_thread_gets_a_large_heir(store):
    token = store.execute(park("a")).token
    store.execute(park("b", LARGE))

    (heir,) = store.execute(hand_over(token)).heirs

    assert heir.envelope == LARGE


def test_an_event_loop_gets_a_large_heir(front):
    async def program():
        store = RedisStore("tls", front.url())
        token = (await store.aexecute(park("a"))).token
        await asyncio.gather(store.aexecute(park("b", LARGE)), store.aexecute(Size("p")))
        reply = await store.aexecute(hand_over(token))
        await store.aclose()
        return reply

    (heir,) = asyncio.run(program()).heirs

    assert heir.envelope == LARGE


def test_a_loop_that_watches_gets_a_large_heir(store):
    answers: list[Any] = []
    with selectors.DefaultSelector() as selector:

        def watch(fd: int) -> None:
            selector.register(fd, selectors.EVENT_READ)

        def unwatch(fd: int) -> None:
            selector.unregister(fd)

        pipe = HubConnection(store, watch, unwatch)
        pipe.send([park("a"), park("b", LARGE)], answers.append)
        while not answers:
            assert selector.select(10)
            pipe.readable()
        pipe.send([hand_over(answers[0][0].token), Size("p")], answers.append)
        while len(answers) < 2:
            assert selector.select(10)
            pipe.readable()
        pipe.hang_up()

    released, size = answers[1]
    assert (released.heirs[0].envelope, size) == (LARGE, 1)


def test_a_certificate_that_nobody_vouches_for_is_refused(front):
    store = RedisStore("tls", f"rediss://127.0.0.1:{front.port}/0")

    with pytest.raises(CachifyStoreError, match="certificate verify failed"):
        store.execute(Size("p"))
    store.close()
