"""The listener's rounds, one by one: its connection and its clock are the test's, and it runs in the test's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from redis import exceptions

from cachify_tasks._core.commands import Release
from cachify_tasks._store import wakeup_listener
from cachify_tasks._store.wakeup_listener import IDLE, KEPT, SILENCE, Listener
from cachify_tasks._store.wakeups import Wakeup
from cachify_tasks.errors import CachifyStoreError
from tests.worker.fakes import Clock

SUBSCRIBED = [b"subscribe", b"channel", 1]
LEFT = Release(pool="p", holder="h", token=1, request_id="r", start_ms=1000, tomb_ms=1000)


class HandConnection:
    """Each look for a message takes the next step: a message, an error, or something to do while none comes."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps)
        self.sent: list[tuple[str, ...]] = []
        self.disconnected = False
        self._message: object = None

    def connect(self) -> None:
        """Nothing can fail here."""

    def disconnect(self) -> None:
        self.disconnected = True

    def send_command(self, *command: str) -> None:
        self.sent.append(command)

    def can_read(self, timeout: float) -> bool:
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if callable(step):
            step()
            return False
        self._message = step
        return True

    def read_response(self, *, push_request: bool) -> object:
        return self._message


class Bench:
    def __init__(self) -> None:
        self.clock = Clock()
        self.executed: list[Release] = []
        self.down = False
        self.connections: list[HandConnection] = []
        self.listener = Listener(self._connect, "to {}".format, self._execute, "the store", clock=self.clock)
        self.waiters: dict[str, Wakeup] = {}

    def _connect(self) -> HandConnection:
        return self.connections.pop(0)

    def _execute(self, command: Release) -> None:
        if self.down:
            raise CachifyStoreError("away")
        self.executed.append(command)

    def wait(self, holder: str) -> Wakeup:
        """A waiter, for which no thread is started."""
        self.listener._thread = threading.current_thread()
        self.waiters[holder] = self.listener.wakeup(holder)
        return self.waiters[holder]

    def listen(self, *steps: object) -> HandConnection:
        """Listen on one connection, until it is stopped, idle or an error is raised."""
        self.listener._thread = threading.current_thread()
        connection = HandConnection(*steps)
        self.listener._listen(connection)
        return connection

    def run(self, *connections: HandConnection) -> None:
        """The whole of the thread."""
        self.listener._thread = threading.current_thread()
        self.connections = list(connections)
        self.listener._run()

    def pass_time(self, seconds: float) -> Callable[[], None]:
        return lambda: self.clock.advance(seconds)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def was_notified(wakeup: Wakeup) -> bool:
    return not wakeup._quiet.locked()


def test_a_message_wakes_its_waiter_alone(bench):
    mine, other = bench.wait("name with spaces"), bench.wait("other")

    connection = bench.listen([b"message", b"channel", b"name with spaces 7"], bench.listener.stop)

    assert was_notified(mine)
    assert not was_notified(other)
    assert connection.sent == [("SUBSCRIBE", bench.listener.channel)]


def test_once_subscribed_all_waiters_ask_again_for_what_they_may_have_missed(bench):
    waiters = [bench.wait("a"), bench.wait("b")]
    assert not bench.listener.listening
    seen: list[bool] = []

    bench.listen(SUBSCRIBED, lambda: seen.append(bench.listener.listening), bench.listener.stop)

    assert all(map(was_notified, waiters))
    assert seen == [True]


def test_what_is_no_message_for_a_waiter_is_passed_over(bench):
    bench.wait("a")

    bench.listen(b"PONG", [b"pong", b""], [b"message", b"channel", b"nobody 1"], bench.listener.stop)

    assert not was_notified(bench.waiters["a"])


def test_it_ends_when_nobody_has_waited_for_a_while(bench):
    bench.wait("a")
    gone = bench.waiters.pop

    connection = bench.listen(bench.pass_time(IDLE + 1), lambda: gone("a"), bench.pass_time(IDLE + 1), "not reached")

    assert connection.steps == ["not reached"]


def test_a_silent_server_is_pinged_and_given_up_when_it_does_not_answer(bench):
    bench.wait("a")

    with pytest.raises(exceptions.TimeoutError, match="nothing for 20 s"):
        bench.listen(bench.pass_time(SILENCE + 1), bench.pass_time(1), bench.pass_time(SILENCE))


def test_a_silent_server_that_answers_its_ping_is_kept(bench):
    bench.wait("a")
    later = bench.pass_time(SILENCE + 1)

    connection = bench.listen(later, b"PONG", later, b"PONG", bench.listener.stop)

    assert connection.sent[1:] == [("PING",)] * 2


def test_a_command_that_a_waiter_left_behind_is_run_as_soon_as_the_store_answers(bench):
    bench.wait("a")
    bench.listener.later(LEFT)
    bench.down = True

    def comes_back() -> None:
        assert bench.executed == []
        bench.down = False

    bench.listen(bench.pass_time(1), comes_back, bench.listener.stop)

    assert bench.executed == [LEFT]
    assert not bench.listener._left


def test_a_command_that_a_waiter_left_behind_is_forgotten_after_a_minute(bench):
    bench.wait("a")
    bench.listener.later(LEFT)
    bench.down = True

    bench.listen(*[bench.pass_time(KEPT / 4 + 1), b"PONG"] * 4, bench.listener.stop)

    assert not bench.listener._left
    assert bench.executed == []


def test_after_a_lost_connection_it_connects_anew_and_the_log_says_so(bench, monkeypatch, caplog):
    monkeypatch.setattr(wakeup_listener, "PAUSE", 0.0)
    bench.wait("a")
    lost = HandConnection(exceptions.ConnectionError("gone"))
    anew = HandConnection(SUBSCRIBED, bench.listener.stop)

    bench.run(lost, anew)

    assert lost.disconnected
    assert anew.disconnected
    assert was_notified(bench.waiters["a"])
    assert "the store: no wakeups from the store, so waiters ask now and then" in caplog.text


def test_a_connection_that_is_lost_while_it_listens_is_not_logged(bench, monkeypatch, caplog):
    monkeypatch.setattr(wakeup_listener, "PAUSE", 0.0)
    bench.wait("a")

    bench.run(HandConnection(SUBSCRIBED, OSError("reset")), HandConnection(SUBSCRIBED, bench.listener.stop))

    assert "no wakeups" not in caplog.text


def test_the_thread_ends_when_nobody_waits(bench):
    bench.run(HandConnection(bench.pass_time(IDLE + 1)))

    assert bench.listener._thread is None
    assert not bench.listener.listening


def test_a_stop_hangs_up_the_connection_that_is_listened_to(bench):
    bench.wait("a")
    seen: list[bool] = []

    def stop() -> None:
        bench.listener.stop()
        seen.append(connection.disconnected)  # which ends the wait for a message in another thread

    connection = HandConnection(stop)
    bench.run(connection)

    assert seen == [True]
    assert bench.listener._connection is None
