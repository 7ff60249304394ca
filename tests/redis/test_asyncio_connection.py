"""Commands of an event loop on one connection: replies in pieces, lost, late, and cancelled waits."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis import exceptions

from cachify_tasks import CachifyStoreError, init_cachify
from cachify_tasks._core.commands import Acquire, Size
from cachify_tasks._redis.pipeline import Pipeline
from cachify_tasks._store import redis_store
from cachify_tasks._store.redis_store import RedisStore
from tests.support.waiting import await_until, wait_until

WIRE = (
    b"+granted 7 1 2 0\r\n:3\r\n$-1\r\n_\r\n>2\r\n+pushed\r\n:1\r\n*3\r\n$2\r\na\n\r\n$0\r\n\r\n:-1\r\n*-1\r\n"
    b"-NOSCRIPT x\r\n"
)
MEANT = [b"granted 7 1 2 0", 3, None, None, [b"a\n", b"", -1], None]


@pytest.fixture
async def store(proxy):
    store = RedisStore("line", f"{proxy.url}?socket_timeout=1")
    yield store
    store.close()
    await store.aclose()


def ask(name: str, pool: str = "p", limit: int = 100) -> Acquire:
    return Acquire(
        pool=pool, holder=name, request_id=name, limit=limit, lease_ms=30000, start_ms=5000, first_delivery=True
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(WIRE)])
def test_replies_are_the_same_in_whatever_pieces_they_come(size):
    pipeline, found = Pipeline[Any](), list[Any]()
    pipeline.in_flight.extend(SimpleNamespace(size=1) for _ in range(len(MEANT) + 1))

    for at in range(0, len(WIRE), size):
        found += [reply for _, (reply,) in pipeline.feed(WIRE[at : at + size])]

    assert found[:-1] == MEANT
    assert isinstance(found[-1], exceptions.NoScriptError)


def test_what_is_no_reply_is_an_error():
    with pytest.raises(exceptions.InvalidResponse, match='got "H"'):
        list(Pipeline[Any]().feed(b"HTTP/1.1 400 Bad Request\r\n"))


async def test_commands_at_once_share_one_connection_and_get_their_own_answers(store, proxy):
    await store.aexecute(Size("p"))

    replies = await asyncio.gather(*(store.begin(ask(str(n), pool=f"p{n}", limit=n + 1)) for n in range(50)))

    assert [reply.limit for reply in replies] == list(range(1, 51))
    assert proxy.connections == 1


async def test_what_one_loop_iteration_asks_goes_out_in_two_writes(store):
    await store.aexecute(Size("p"))
    sender: Any = store._loops.current().sender
    transport, written = sender._connection._transport, list[bytes]()
    write = transport.write

    def recorded(data):
        written.append(data)
        write(data)

    transport.write = recorded

    first = await store.begin(Size("p"))
    assert len(written) == 1  # at once: nothing was under way
    rest = await asyncio.gather(*(store.begin(Size("p")) for _ in range(50)))

    assert (first, *rest) == (0,) * 51
    assert [data.count(b"EVALSHA") for data in written] == [1, 1, 49]


async def test_what_was_not_written_yet_when_the_connection_broke_is_sent_on_the_next_one(store, proxy):
    await store.aexecute(Size("p"))
    connections = proxy.connections
    sender: Any = store._loops.current().sender
    broken = sender._connection
    answers = [store.begin(ask(str(n))) for n in range(5)]
    broken.fail(redis.ConnectionError("broken"))

    replies = await asyncio.gather(*answers)

    assert [reply.status for reply in replies] == ["granted"] * 5
    assert proxy.connections == connections + 1


@pytest.mark.parametrize("fault", ["drop", "cut", "reset"])
async def test_commands_whose_replies_are_lost_are_sent_again_and_answered_once(store, proxy, fault):
    await store.aexecute(Size("p"))
    proxy.latency = 0.02

    if fault == "drop":
        proxy.drop_replies(3)
    answers = [store.begin(ask(str(n), limit=20)) for n in range(20)]
    if fault != "drop":
        await asyncio.sleep(0.03)
        getattr(proxy, fault)()

    replies = await asyncio.gather(*answers)
    assert {reply.status for reply in replies} == {"granted"}
    assert len({reply.token for reply in replies}) == 20
    assert await store.aexecute(Size("p")) == 20


async def test_a_silent_server_is_asked_twice_and_no_wait_stays_open(store, proxy):
    await store.aexecute(Size("p"))
    connections = proxy.connections
    proxy.blackhole()

    answers = await asyncio.gather(*(store.begin(Size("p")) for _ in range(5)), return_exceptions=True)

    assert {type(answer) for answer in answers} == {CachifyStoreError}
    assert proxy.connections == connections + 1  # each try takes a time-out
    proxy.heal()
    assert await store.aexecute(Size("p")) == 0


async def test_a_wait_that_is_cancelled_takes_the_answer_first_and_frees_the_slot(proxy, redis_url):
    cachify = init_cachify(url=proxy.url, is_global=False)
    pool = cachify.pool("p", max_size=1)
    async with pool:
        pass
    commands = proxy.commands
    proxy.blackhole()

    async def enter():
        async with pool:
            raise AssertionError("it was cancelled before it could come in")

    entering = asyncio.create_task(enter())
    await await_until(lambda: proxy.commands > commands)
    entering.cancel()
    await asyncio.sleep(0)
    proxy.heal()

    with pytest.raises(asyncio.CancelledError):
        await entering
    with redis.Redis.from_url(redis_url) as client:
        assert client.exists(*RedisStore("py-cachify").schema.pool("p")[:1]) == 0
    cachify.close()
    await cachify.aclose()


async def test_a_timeout_of_the_caller_is_delivered_when_the_answer_is_there(store, proxy):
    await store.aexecute(Size("p"))
    proxy.blackhole()
    asyncio.get_running_loop().call_later(0.1, proxy.heal)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await store.begin(Size("p"))

    assert await store.begin(Size("p")) == 0


async def test_a_reply_that_is_no_answer_is_an_error_and_no_wait_stays_open(store, monkeypatch):
    await store.aexecute(Size("p"))
    monkeypatch.setattr(redis_store, "decoded", lambda command, reply: int("odd"))
    answers = [store.begin(Size("p")), store.begin(Size("p"))]

    done, _ = await asyncio.wait(answers, timeout=5)

    assert [type(answer.exception()) for answer in done] == [ValueError, ValueError]


async def test_closing_while_others_connect_cancels_nobody(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        before = len(client.client_list())
        for moment in range(30):
            store = RedisStore("line", redis_url)
            asking = [asyncio.ensure_future(work) for work in (store.aexecute(Size("p")), store.aexecute(Size("p")))]
            for _ in range(moment):
                await asyncio.sleep(0)

            await store.aclose()

            assert await asyncio.gather(*asking) == [0, 0]
            await store.aclose()

        await await_until(lambda: len(client.client_list()) <= before)


async def test_what_was_under_way_when_the_store_was_closed_leaves_no_connection(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        before = len(client.client_list())
        store = RedisStore("line", redis_url)
        await store.aexecute(Size("p"))
        asking = [store.begin(Size("p")), store.begin(Size("p"))]

        await store.aclose()

        assert await asyncio.gather(*asking) == [0, 0]
        await await_until(lambda: len(client.client_list()) <= before)


class Struck:
    """Stands for a part of a pipeline; a signal strikes when that method of it has been called for the first time."""

    def __init__(self, part, method):
        self._part, self._method = part, method

    def __getattr__(self, name):
        return self._strike if name == self._method else getattr(self._part, name)

    def _strike(self, *args):
        method, self._method = self._method, None
        getattr(self._part, method)(*args)
        raise KeyboardInterrupt

    def __bool__(self):
        return bool(self._part)

    def __iter__(self):
        return iter(self._part)

    def __getitem__(self, index):
        return self._part[index]


@pytest.mark.parametrize(("part", "method"), [("in_flight", "append"), ("_reader", "feed"), ("in_flight", "popleft")])
def test_wherever_a_signal_strikes_nobody_gets_the_answer_of_another(redis_url, part, method):
    async def struck():
        sender: Any = store._loops.current().sender
        pipeline = sender._connection._pipeline
        setattr(pipeline, part, Struck(getattr(pipeline, part), method))
        answers.append(store.begin(Size("q")))
        await answers[0]

    async def afterwards():
        answers.extend([store.begin(Size("p")), store.begin(Size("q"))])
        await asyncio.wait(answers, timeout=5)

    store, loop, answers = RedisStore("line", f"{redis_url}?socket_timeout=0.5"), asyncio.new_event_loop(), list[Any]()
    for command in (ask("a"), Size("q")):
        loop.run_until_complete(store.aexecute(command))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(struck())

    loop.run_until_complete(afterwards())

    assert [answer.result() for answer in answers] in ([0, 1, 0], [1, 0])
    loop.run_until_complete(store.aclose())
    loop.close()
    store.close()


def test_a_signal_while_several_commands_are_written_loses_no_answer(redis_url):
    def strike(data):
        raise KeyboardInterrupt

    async def struck():
        answers.append(store.begin(Size("q")))
        sender: Any = store._loops.current().sender
        connection = sender._connection
        transport = connection._transport
        connection._transport = SimpleNamespace(write=strike, abort=transport.abort)
        answers.extend([store.begin(ask("b", "p", 2)), store.begin(ask("c", "p", 2))])
        await asyncio.wait(answers)

    async def afterwards():
        answers.append(store.begin(ask("d", "q", 3)))
        await asyncio.wait(answers, timeout=5)

    store, loop, answers = RedisStore("line", redis_url), asyncio.new_event_loop(), list[Any]()
    loop.run_until_complete(store.aexecute(Size("q")))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(struck())

    loop.run_until_complete(afterwards())

    size, *granted = [answer.result() for answer in answers]
    assert size == 0
    assert [(reply.limit, reply.held) for reply in granted] == [(2, 1), (2, 2), (3, 1)]
    loop.run_until_complete(store.aclose())
    loop.close()
    store.close()


def test_nothing_is_left_behind_when_loops_come_and_go(redis_url):
    store = RedisStore("line", redis_url)
    with redis.Redis.from_url(redis_url) as client:
        before = len(client.client_list())

        for _ in range(5):
            asyncio.run(store.aexecute(Size("p")))

        wait_until(lambda: len(client.client_list()) <= before)
    store.close()
