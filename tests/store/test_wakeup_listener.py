"""Waiters on a real server, when connections, servers and processes fail."""

import os
import signal
import threading
import time

import pytest
import redis

from cachify_tasks import CachifyStoreError, Wait, init_cachify, pool, pooled
from cachify_tasks._runtime.instances import set_global_runtime
from cachify_tasks._store import wakeup_listener as listener_module
from tests.support.programs import program, run
from tests.support.queues import nothing_is_left, queued, waiting
from tests.support.waiting import wait_until

SOON = 8.0  # seconds, less than the interval at which an uncalled waiter asks
LONG = 30.0
WAITER = """
    import signal, sys
    from cachify_tasks import init_cachify, pool
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    init_cachify(url=sys.argv[1], lease_ttl=float(sys.argv[2]), start_timeout=1)
    held = pool("p", max_size=1).acquire()
    print("in", flush=True)
    input()
"""


@pytest.fixture
def direct(redis_url):
    """An instance whose connections do not fail."""
    made = init_cachify(url=redis_url, is_global=False)
    yield made
    made.close()


@pytest.fixture
def connect(proxy):
    """Makes the global instance, whose connections go through the proxy."""
    made = []

    def make(**settings):
        made.append(init_cachify(url=f"{proxy.url}?socket_timeout=1&socket_connect_timeout=1", **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()
    set_global_runtime(None)


def passing():
    with pool("p", max_size=1).acquire(LONG):
        return


def listeners():
    return [thread for thread in threading.enumerate() if thread.name == "cachify-listener"]


def test_a_call_that_is_lost_with_its_connection_is_made_up_for(connect, proxy, direct, threads):
    connect()
    held = direct.pool("p", max_size=1).acquire()
    call = threads.submit(pool("p", max_size=1).acquire, LONG)
    queued(direct, 1)

    proxy.refuse()
    proxy.cut()
    held.release()  # nobody hears it
    proxy.heal()

    call.result(SOON).release()
    nothing_is_left(direct)


def test_all_waiters_listen_again_after_their_connection_was_reset(connect, proxy, direct, threads):
    connect()
    held = direct.pool("p", max_size=1).acquire()
    calls = [threads.submit(passing) for _ in range(5)]
    queued(direct, 5)
    before = proxy.connections

    proxy.reset()
    wait_until(lambda: proxy.connections > before)
    held.release()

    for call in calls:
        call.result(SOON)
    nothing_is_left(direct)


def test_a_connection_on_which_nothing_comes_any_more_is_given_up(connect, proxy, direct, threads, monkeypatch):
    monkeypatch.setattr(listener_module, "SILENCE", 0.2)
    monkeypatch.setattr(listener_module, "TICK", 0.05)
    connect()
    held = direct.pool("p", max_size=1).acquire()
    call = threads.submit(pool("p", max_size=1).acquire, LONG)
    queued(direct, 1)

    before = proxy.connections
    proxy.blackhole()
    held.release()
    wait_until(lambda: proxy.connections > before)  # it has asked, got no answer, and tries another one
    proxy.cut()  # what was held back is lost
    proxy.heal()

    call.result(SOON).release()


def test_a_quiet_connection_is_kept_by_asking(connect, proxy, direct, threads, monkeypatch):
    monkeypatch.setattr(listener_module, "SILENCE", 1.0)
    monkeypatch.setattr(listener_module, "TICK", 0.05)
    connect()
    held = direct.pool("p", max_size=1).acquire()
    call = threads.submit(pool("p", max_size=1).acquire, LONG)
    queued(direct, 1)
    connections, commands = proxy.connections, proxy.commands

    wait_until(lambda: proxy.commands >= commands + 3)  # PING; a waiter asks much later

    assert proxy.connections == connections
    held.release()
    call.result(SOON).release()


def test_lost_replies_leave_one_ticket_and_one_slot(connect, proxy, direct, threads):
    connect()
    p = pool("p", max_size=1)
    held = direct.pool("p", max_size=1).acquire()
    first = threads.submit(p.acquire, LONG)  # from then on there is a listener
    queued(direct, 1)

    proxy.drop_replies(1, command="EVALSHA")
    second = threads.submit(p.acquire, LONG)
    queued(direct, 2)
    wait_until(lambda: proxy.dropped == 1)
    proxy.drop_replies(1, command="EVALSHA")
    held.release()

    first.result(SOON).release()
    second.result(SOON).release()
    assert proxy.dropped == 2
    nothing_is_left(direct)


@pytest.mark.parametrize("choice", ["raise", "retry", "run"])
def test_waiters_do_as_they_are_told_when_the_store_goes_away(connect, proxy, direct, threads, choice):
    connect(on_store_error=choice, lease_ttl=3)

    @pooled("p", max_size=1, on_full=Wait(timeout=LONG))
    def work() -> str:
        return "ran"

    held = direct.pool("p", max_size=1).acquire()
    call = threads.submit(work)
    queued(direct, 1)
    proxy.refuse()
    proxy.cut()

    if choice == "raise":
        with pytest.raises(CachifyStoreError):
            call.result(SOON)
    elif choice == "run":
        assert call.result(SOON) == "ran"
    else:
        time.sleep(2)  # it has asked in vain
        assert not call.done()

    proxy.heal()
    if choice != "retry":
        wait_until(lambda: waiting(direct) == 0, SOON, "its ticket is taken back when the store is there again")
    held.release()
    assert call.exception(SOON) is None or choice == "raise"
    nothing_is_left(direct)


def test_retrying_ends_with_the_timeout(connect, proxy, direct, threads):
    connect(on_store_error="retry", lease_ttl=3)
    with direct.pool("p", max_size=1):
        call = threads.submit(pool("p", max_size=1).acquire, 3)
        queued(direct, 1)
        proxy.refuse()
        proxy.cut()

        with pytest.raises(CachifyStoreError):
            call.result(SOON)

        proxy.heal()
        wait_until(lambda: waiting(direct) == 0, SOON)


def test_the_listener_ends_when_nobody_waits_and_begins_again(redis_url, threads, monkeypatch):
    monkeypatch.setattr(listener_module, "IDLE", 0.1)
    monkeypatch.setattr(listener_module, "TICK", 0.05)
    wait_until(lambda: not listeners())
    made = init_cachify(url=redis_url)
    p = pool("p", max_size=1)
    with redis.Redis.from_url(redis_url) as client:
        for _ in range(2):
            with p:
                call = threads.submit(p.acquire, LONG)
                queued(made, 1)
                assert len(listeners()) == 1
                assert client.pubsub_channels("PYC-:1:wakeups:*")
            call.result(SOON).release()

            wait_until(lambda: not listeners())
            wait_until(lambda: not client.pubsub_channels("*"))
    made.close()
    set_global_runtime(None)


def test_closing_ends_the_listener_at_once(redis_url, threads, monkeypatch):
    wait_until(lambda: not listeners())
    monkeypatch.setattr(listener_module, "TICK", 60.0)
    made = init_cachify(url=redis_url)
    p = pool("p", max_size=1)
    with p:
        call = threads.submit(p.acquire, LONG)
        queued(made, 1)
    call.result(SOON).release()

    made.close()

    wait_until(lambda: not listeners())
    set_global_runtime(None)


def test_a_listener_that_cannot_be_started_leaves_nothing(redis_url, monkeypatch):
    made = init_cachify(url=redis_url)

    def cannot(_):
        raise RuntimeError("can't start new thread")

    with pool("p", max_size=1):
        with monkeypatch.context() as patch:
            patch.setattr("threading.Thread.start", cannot)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                pool("p", max_size=1).acquire(timeout=60)
        assert waiting(made) == 0
    nothing_is_left(made)
    made.close()
    set_global_runtime(None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_others_wait_waits_by_itself(redis_url):
    told = run(
        """
        import os, sys, threading, time, warnings
        warnings.simplefilter("ignore")
        from cachify_tasks import init_cachify, pool
        from cachify_tasks._core.commands import Inspect
        cachify = init_cachify(url=sys.argv[1])
        p, came = pool("p", max_size=1), []

        def wait():
            with p.acquire(timeout=20):
                came.append(1)

        def queued(count):
            while cachify._runtime.store.execute(Inspect("p")).waiting != count:
                time.sleep(0.01)

        with p:
            waiters = [threading.Thread(target=wait) for _ in range(3)]
            for waiter in waiters:
                waiter.start()
            queued(3)
            pid = os.fork()
            if pid == 0:
                began = time.monotonic()
                with p.acquire(timeout=20) as slot:
                    os._exit(0 if time.monotonic() - began < 5 else 3)
            queued(4)
        for waiter in waiters:
            waiter.join()
        print(len(came), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        redis_url,
    )

    assert told.split() == ["3", "0"]


def test_a_killed_waiter_costs_one_start_timeout(redis_url, direct, threads):
    short = init_cachify(url=redis_url, is_global=False, start_timeout=3, lease_ttl=3)
    held = short.pool("p", max_size=1).acquire()
    with program(WAITER, redis_url, "3") as dead:
        queued(short, 1)
        call = threads.submit(short.pool("p", max_size=1).acquire, LONG)
        queued(short, 2)
        dead.signal(signal.SIGKILL)
        dead.process.wait()

    held.release()
    began = time.monotonic()

    call.result(SOON).release()
    assert 2.9 < time.monotonic() - began < 6  # the reserved slot's life, and until a waiter asks; not two of them
    nothing_is_left(short)
    short.close()


def test_a_waiter_comes_within_a_third_of_a_lease_after_that_of_a_killed_holder(redis_url, threads):
    short = init_cachify(url=redis_url, is_global=False, start_timeout=1, lease_ttl=3)
    with program(WAITER, redis_url, "3") as holder:
        assert holder.line() == "in"
        call = threads.submit(short.pool("p", max_size=1).acquire, LONG)
        queued(short, 1)
        holder.signal(signal.SIGKILL)
        holder.process.wait()
    began = time.monotonic()

    call.result(SOON).release()

    assert 1.5 < time.monotonic() - began < 3 + 1 + 2
    nothing_is_left(short)
    short.close()


def test_an_interrupted_program_leaves_the_queue(redis_url, direct):
    with direct.pool("p", max_size=1), program(WAITER, redis_url, "30") as waiter:
        queued(direct, 1)

        waiter.signal(signal.SIGINT)

        wait_until(lambda: waiting(direct) == 0)
        assert waiter.process.wait() != 0
