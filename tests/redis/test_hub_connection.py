"""Commands without waiting, for loops that watch file descriptors."""

import os
import selectors
import socket
import threading
import time
from dataclasses import replace

import pytest

from cachify_tasks import CachifyStoreError
from cachify_tasks._core.commands import Acquire, Inspect, Release, Size, StartReserved, Ticket
from cachify_tasks._redis.hub_connection import HubConnection
from cachify_tasks._store.redis_store import RedisStore
from tests.support.waiting import SOON_S, wait_until


class Loop:
    """As little of an event loop as a pipe needs."""

    def __init__(self, url):
        self.store = RedisStore("pipe", url)
        self._selector = selectors.DefaultSelector()
        self.pipe = HubConnection(self.store, self._watch, self._unwatch)
        self.answers = []

    def _watch(self, fd):
        self._selector.register(fd, selectors.EVENT_READ)

    def _unwatch(self, fd):
        self._selector.unregister(fd)

    def send(self, *commands):
        self.pipe.send(commands, self.answers.append)

    def turn_until(self, count, seconds=SOON_S):
        until = time.monotonic() + seconds
        while len(self.answers) < count:
            assert time.monotonic() < until, self.answers
            if self._selector.select(0.05):
                self.pipe.readable()
            self.pipe.check_overdue()

    def select(self):
        return self._selector.select(0.05)

    def close(self):
        self.pipe.hang_up()
        self.store.close()
        self._selector.close()


@pytest.fixture
def loop(proxy):
    loop = Loop(f"{proxy.url}?socket_timeout=1&socket_connect_timeout=1")
    yield loop
    loop.close()


@pytest.fixture
def patient_loop(proxy):
    loop = Loop(f"{proxy.url}?socket_timeout=10")
    yield loop
    loop.close()


def ask(name: str, limit: int = 100) -> Acquire:
    return Acquire(
        pool="p", holder=name, request_id=name, limit=limit, lease_ms=30000, start_ms=5000, first_delivery=True
    )


def start(name: str, request_id: str) -> StartReserved:
    return StartReserved(pool="p", holder=name, request_id=request_id, limit=1, lease_ms=30_000, start_ms=5_000)


def test_batches_are_answered_in_their_order_each_with_its_own_answers(patient_loop, proxy):
    loop = patient_loop
    for n in range(20):
        loop.send(ask(f"{n}", limit=50), Size("p"))

    loop.turn_until(20)

    assert [(acquired.status, acquired.held, size) for acquired, size in loop.answers] == [
        ("granted", n, n) for n in range(1, 21)
    ]


def test_nothing_waits_while_the_server_is_slow(patient_loop, proxy):
    loop = patient_loop
    loop.send(Size("p"))
    loop.turn_until(1)
    proxy.blackhole()

    loop.send(ask("a"))
    loop.send(ask("b"))

    assert len(loop.answers) == 1
    proxy.heal()
    loop.turn_until(3)
    assert [reply.status for (reply,) in loop.answers[1:]] == ["granted"] * 2


@pytest.mark.parametrize("fault", ["drop", "cut", "reset"])
def test_what_a_lost_connection_has_not_answered_is_sent_again_and_runs_once(loop, proxy, fault):
    loop.send(Size("p"))
    loop.turn_until(1)
    proxy.latency = 0.05
    if fault == "drop":
        proxy.drop_replies(2)

    for n in range(10):
        loop.send(ask(f"{n}"))
    if fault != "drop":
        getattr(proxy, fault)()
    loop.turn_until(11)

    assert [reply.status for (reply,) in loop.answers[1:]] == ["granted"] * 10
    assert loop.store.execute(Size("p")) == 10


def test_nothing_overtakes_what_was_lost_twice(patient_loop, proxy):
    loop = patient_loop
    loop.send(Size("p"))
    loop.turn_until(1)
    proxy.latency = 0.1

    loop.send(ask("first"))
    proxy.cut()
    wait_until(loop.select)
    loop.pipe.readable()
    loop.send(ask("second"))
    proxy.cut()
    loop.turn_until(3)

    assert [type(answer) for answer in loop.answers[1:]] == [CachifyStoreError] * 2
    assert loop.store.execute(Size("p")) == 0
    loop.send(ask("first"), ask("second"))
    loop.turn_until(4)
    first, second = loop.answers[3]
    assert first.token < second.token


def test_a_release_whose_reply_was_lost_answers_the_same(loop, proxy):
    loop.send(ask("a", limit=1))
    loop.turn_until(1)
    token = loop.answers[0][0].token
    proxy.drop_replies(1)

    loop.send(
        Release(pool="p", holder="a", token=token, request_id="a", start_ms=5000, tomb_ms=5000), ask("b", limit=1)
    )
    loop.turn_until(2)

    assert [reply.status for reply in loop.answers[1]] == ["released", "granted"]


def test_a_silent_server_is_told_for_each_batch_and_it_works_again_when_it_answers(loop, proxy):
    loop.send(Size("p"))
    loop.turn_until(1)
    proxy.blackhole()

    for n in range(3):
        loop.send(ask(f"{n}"))
    loop.turn_until(4)

    assert {type(answer) for answer in loop.answers[1:]} == {CachifyStoreError}
    proxy.heal()
    loop.send(Size("p"))
    loop.turn_until(5)
    assert loop.answers[4] != []


def test_a_connection_that_cannot_be_made_is_tried_once(loop, proxy, monkeypatch):
    tries = []
    make = loop.store.make_connection

    def make_connection():
        connection = make()
        connect = connection._connect

        def counted():
            tries.append(1)
            return connect()

        monkeypatch.setattr(connection, "_connect", counted)
        return connection

    monkeypatch.setattr(loop.store, "make_connection", make_connection)
    proxy.blackhole()

    loop.send(ask("a"))

    assert [type(answer) for answer in loop.answers] == [CachifyStoreError]
    assert tries == [1]


def test_replies_that_nobody_asked_for_answer_no_later_command(loop):
    loop.send(Size("p"))
    loop.turn_until(1)
    loop.pipe._connection.send_packed_command((b"*1\r\n$4\r\nPING\r\n",))  # behind its back
    wait_until(loop.pipe._can_read)
    loop.pipe.readable()

    loop.send(ask("a"))
    loop.send(Size("p"))
    loop.turn_until(3)

    (reply,), (size,) = loop.answers[1:]
    assert (reply.status, size) == ("granted", 1)


def test_a_connection_that_breaks_while_it_is_written_to_is_watched_no_more(loop, proxy):
    loop.send(Size("p"))
    loop.turn_until(1)
    inherited = os.dup(loop.pipe._fd)  # as a process has it that was forked meanwhile
    loop.pipe._connection._sock.shutdown(socket.SHUT_WR)

    loop.send(ask("a"))
    loop.turn_until(2)

    assert loop.answers[1][0].status == "granted"
    assert loop.select() == []
    os.close(inherited)


def test_a_loop_that_tells_of_nothing_neither_waits_nor_breaks_the_connection(patient_loop, proxy):
    patient_loop.send(Size("p"))
    patient_loop.turn_until(1)
    connections = proxy.connections

    patient_loop.pipe.readable()
    patient_loop.send(ask("a"))
    patient_loop.turn_until(2)

    assert proxy.connections == connections


def test_draining_waits_for_every_answer(patient_loop, proxy):
    loop = patient_loop
    proxy.latency = 0.05
    for n in range(5):
        loop.send(ask(f"{n}"))

    loop.pipe.drain()

    assert [reply.status for (reply,) in loop.answers] == ["granted"] * 5


def test_draining_ends_where_the_server_is_gone(loop, proxy):
    loop.send(Size("p"))
    loop.turn_until(1)
    proxy.blackhole()
    loop.send(Size("p"))
    proxy.refuse()
    proxy.cut()

    loop.pipe.drain()

    assert isinstance(loop.answers[1], CachifyStoreError)


def test_a_reply_that_came_while_the_process_stood_still_is_not_overdue(loop, proxy):
    loop.send(Size("p"))
    loop.turn_until(1)
    commands = proxy.commands
    loop.send(ask("a"))
    wait_until(lambda: proxy.replies == proxy.commands > commands)
    overdue = time.monotonic() + 1.2
    wait_until(lambda: time.monotonic() > overdue)

    loop.pipe.check_overdue()

    ((reply,),) = loop.answers[1:]
    assert reply.status == "granted"
    assert proxy.commands == commands + 1


def test_a_parked_task_that_has_ended_before_its_arrival_is_sent_again_does_not_run_again(loop, proxy, redis_url):
    other = RedisStore("pipe", redis_url)
    token = other.execute(ask("a", 1)).token
    loop.send(Size("p"))
    loop.turn_until(1)
    proxy.drop_replies(1, command="EVALSHA")
    loop.send(replace(ask("b", 1), ticket=Ticket(kind="task/test", envelope=b"message")))
    wait_until(lambda: proxy.dropped == 1)
    (heir,) = other.execute(
        Release(pool="p", holder="a", token=token, request_id="ra", start_ms=9000, tomb_ms=9000, can_start_heirs=True)
    ).heirs
    other.execute(start("b", request_id="elsewhere"))
    other.execute(Release(pool="p", holder="b", token=heir.token, request_id="elsewhere", start_ms=9000, tomb_ms=9000))

    loop.turn_until(2)

    ((reply,),) = loop.answers[1:]
    assert reply.status == "dropped"
    other.close()


def test_nor_does_one_whose_arrival_is_sent_again_by_a_thread_that_waits(proxy, redis_url):
    other, store = RedisStore("pipe", redis_url), RedisStore("pipe", f"{proxy.url}?socket_timeout=2")
    token = other.execute(ask("a", 1)).token
    store.execute(Size("p"))
    replies = []
    arrival = replace(ask("b", 1), ticket=Ticket(kind="task/test", envelope=b"message"))
    proxy.drop_replies(1, command="EVALSHA")
    asking = threading.Thread(target=lambda: replies.append(store.execute(arrival)))
    asking.start()
    wait_until(lambda: other.execute(Inspect("p")).waiting == 1)
    (heir,) = other.execute(
        Release(pool="p", holder="a", token=token, request_id="ra", start_ms=9000, tomb_ms=9000, can_start_heirs=True)
    ).heirs
    other.execute(start("b", request_id="elsewhere"))
    other.execute(Release(pool="p", holder="b", token=heir.token, request_id="elsewhere", start_ms=9000, tomb_ms=9000))

    asking.join()

    assert [reply.status for reply in replies] == ["dropped"]
    other.close()
    store.close()
