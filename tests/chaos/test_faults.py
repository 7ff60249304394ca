"""Tasks, many pools, and everything that kills: each task is done, no limit is passed, nothing is left behind.

`CACHIFY_CHAOS=full` (`make chaos`) runs the full size.

A Redis broker may lose messages by itself (see `history`). Such a message is no fault of ours, so it is counted apart
and its task is sent anew. The criterion is not that the task is missing: each missing task must be proven lost by the
broker's own append-only file, where its message was popped and then never written down as delivered; while it was in
such a state no worker, and so none of our scripts, had it. RabbitMQ loses none.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import redis
from kombu import Connection

from cachify_tasks import CachifyStoreError
from cachify_tasks.testing import Problem, assert_sound, check
from cachify_tasks.testing.server import EmbeddedServer
from tests.chaos import judge
from tests.chaos.driver import Fleet, Sender, fleet, sender_app, write_storm
from tests.chaos.history import Broker
from tests.support.leaks import keys_without_ttl
from tests.support.proxy import FaultProxy
from tests.support.waiting import wait_until

FULL = os.getenv("CACHIFY_CHAOS") == "full"
LEASE, START = 4.0, 2.5
# Short, or a killed worker's messages come again an hour later; longer than a worker is stopped here.
# The mutex: a worker that is killed while it looks for such messages keeps all others from it for 300 s, else.
TRANSPORT = {
    "visibility_timeout": 9, "unacked_restore_interval": 1, "unacked_restore_throttle": 1, "unacked_mutex_expire": 3,
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    tasks: int
    keys: int
    workers: int  # that are killed
    children: int
    seconds: tuple[float, float]  # of work in a task
    burst: int  # so many tasks of one key are sent in a row at most


SIZE = Size(5004, 20, 5, 3, (0.01, 0.08), 60) if FULL else Size(300, 6, 1, 1, (0.01, 0.08), 30)
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900 if FULL else 400)]


class Watch:
    """Looks at the store again and again while the storm goes on: it must be in order at every moment."""

    def __init__(self, url: str) -> None:
        self.found: list[Problem] = []
        self.looks = self.missed = 0
        self._url, self._over = url, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.wait(0.5):
            try:
                self.found += [problem for problem in check(self._url) if not problem.note]
                self.looks += 1
            except CachifyStoreError:  # the server is being restarted
                self.missed += 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        yield
        self._over.set()
        self._thread.join(20)


def faults_of(fleet: Fleet, sender: Sender, server: EmbeddedServer, proxy: FaultProxy) -> list[Callable[[], None]]:
    """Of each kind as many as the size says, mixed."""
    kills = [fleet.kill_worker] * SIZE.workers
    found: list[Callable[[], None]] = []
    for n, kill in enumerate(kills):
        found.append(kill)
        if n < SIZE.children:
            found.append(fleet.kill_child)
        if n == 0:
            found.append(partial(drop_reply, proxy))
        if n == min(1, SIZE.workers - 1):
            found.append(partial(fleet.stop_worker, LEASE + 2))
        if n == min(3, SIZE.workers - 1):
            found.append(partial(restart, sender, server))
    return found


def restart(sender: Sender, server: EmbeddedServer) -> None:
    with sender.pause:  # a publisher that lost its reply would send its task twice
        server.restart()


def drop_reply(proxy: FaultProxy) -> None:
    dropped = proxy.dropped
    proxy.drop_replies(1, command="EVALSHA")
    wait_until(lambda: proxy.dropped > dropped, 20, "a reply is dropped")


def left_in_store(url: str) -> list[str]:
    """Keys of slots, queues or tickets."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return [key for key in client.scan_iter() if key.rpartition(":")[2] in ("slots", "queue", "tickets", "waiting")]


def left_in_redis_broker(url: str, queue: str) -> int:
    with redis.Redis.from_url(url) as client:
        lists = [queue, *(f"{queue}\x06\x16{priority}" for priority in (3, 6, 9))]
        return sum(int(client.llen(name)) for name in lists) + int(client.hlen("unacked"))


def left_in_rabbitmq(url: str, queue: str) -> int:
    """It does not tell of messages that a worker holds unacknowledged."""
    with Connection(url) as connection:
        channel: Any = connection.channel()
        return int(channel.queue_declare(queue, passive=True).message_count)


def finish(fleet: Fleet, sender: Sender, store: str, left: Callable[[], int], *, loses: bool) -> set[str]:
    """Until all is done, or nobody has any of what is missing; answers the missing.

    Args:
        loses: the broker may lose messages, and `left` tells of all that it has. Else only the end of all is an end.
    """

    def over() -> bool:
        fleet.revive()
        fleet.runs.read()
        return fleet.runs.done >= set(sender.sent) or (loses and not left() and not left_in_store(store))

    until, lines = time.monotonic() + 60, 0
    while not (over() and over()):
        if fleet.runs.lines[lines:]:
            until, lines = time.monotonic() + 60, len(fleet.runs.lines)
        assert time.monotonic() < until, (
            f"stuck: {len(set(sender.sent) - fleet.runs.done)} tasks missing, {left()} messages in the broker, "
            f"{left_in_store(store)} in the store"
        )
        time.sleep(0.2)
    return set(sender.sent) - fleet.runs.done


def storm(tmp_path, server, broker, queue, left, lost_by_broker=None, **conf):
    """Everything, up to the verdict; `lost_by_broker` answers the ids of the messages that the broker lost itself."""
    loses = lost_by_broker is not None
    started = time.monotonic()
    app = sender_app(broker, queue, **conf)
    sender = Sender(app, SIZE.keys)
    wave = SIZE.tasks // (SIZE.workers + SIZE.children + 4)
    with FaultProxy(server.port) as proxy:
        write_storm(
            tmp_path, broker=broker, store=proxy.url, queue=queue, cachify_lease_ttl=LEASE,
            cachify_start_timeout=START, **conf,
        )  # fmt: skip
        watch = Watch(server.url)
        sender.send(wave, SIZE.seconds, SIZE.burst)
        with fleet(tmp_path) as workers, watch.watching():
            for n, fault in enumerate(faults_of(workers, sender, server, proxy)):
                workers.wait_done(wave * n + wave // 4)
                with sender.sending(wave, SIZE.seconds, SIZE.burst):  # it strikes while messages come in
                    fault()

            missing = finish(workers, sender, server.url, left, loses=loses)
            lost = lost_by_broker() if loses else set()
            assert missing <= lost, f"tasks that nobody lost are missing: {sorted(missing - lost)}"
            for name in missing:
                sender.one(*sender.sent.pop(name))
            assert not finish(workers, sender, server.url, left, loses=loses)
            wait_until(lambda: not left() and not left_in_store(server.url), 30, "all is over")
            workers.stop()
        dropped = proxy.dropped
    app.close()

    runs = judge.runs_of(workers.runs.lines)
    second = judge.second_runs(runs, workers.faults, workers.let_go())
    kinds = [fault.kind for fault in workers.faults if fault.pid in {run.main for run in runs} or fault.kind == "child"]
    print(  # noqa: T201  # asked for: `make chaos` shows it
        f"{broker.partition(':')[0]} broker: {len(workers.runs.done)} tasks done in {len(runs)} runs, "
        f"{time.monotonic() - started:.0f} s; second runs: {judge.told(second)}; "
        f"runs that saw LeaseLost: {sum(run.lost for run in runs)}; "
        f"lost by the transport and sent anew: {len(missing)}; workers killed: {kinds.count('worker')}, "
        f"children killed: {kinds.count('child')}, workers stopped: {kinds.count('stop')}, replies dropped: {dropped}, "
        f"workers ended by Celery: {kinds.count('ended')}, "
        f"restarts of Redis: 1; most at once over the limit, lost leases included: "
        f"{max(most - limit for most, limit in judge.peaks(runs, valid=False).values())}; "
        f"looks at the store meanwhile: {watch.looks}"
    )
    assert kinds.count("worker") == SIZE.workers
    assert kinds.count("child") == SIZE.children
    assert kinds.count("stop") == 1
    assert dropped == 1
    assert watch.found == []
    assert watch.looks > 5
    assert set(sender.sent) <= workers.runs.done
    assert judge.over_limit(runs) == {}
    for first, requeue in second.get(judge.UNEXPLAINED, ()):
        pytest.fail(f"{first}, {requeue}, of the faults {workers.faults}; logs: {workers.said(first.id)}")
    assert_sound(server.url, settled=True)
    assert keys_without_ttl(server.url) == []
    return missing


def test_every_task_is_done_over_redis(tmp_path, private_server):
    files = tmp_path / "aof"
    files.mkdir()
    server = private_server(append_only=files, extra_args=("--auto-aof-rewrite-percentage", "0"))
    broker = server.url.removesuffix("/0") + "/1"

    storm(
        tmp_path, server, broker, "storm", partial(left_in_redis_broker, broker, "storm"),
        lambda: set(Broker(files, "storm").lost().values()), broker_transport_options=TRANSPORT,
    )  # fmt: skip


@pytest.fixture
def rabbit_queue(amqp_url):
    name = f"cachify-test-{uuid.uuid4().hex}"
    yield name
    with Connection(amqp_url) as connection:
        channel: Any = connection.channel()
        channel.queue_delete(name)
        channel.exchange_delete(name)


def test_every_task_is_done_over_rabbitmq(tmp_path, private_server, amqp_url, rabbit_queue):
    server = private_server(append_only=True)

    lost = storm(tmp_path, server, amqp_url, rabbit_queue, partial(left_in_rabbitmq, amqp_url, rabbit_queue))

    assert not lost
