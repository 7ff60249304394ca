"""A Celery worker that the test moves by hand: its event loop, pool and broker; real requests, semaphore and store.

Only what the gates use of a worker is here. `test_internals` holds Celery to the same names.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from celery import Celery, bootsteps
from celery.backends import cache
from celery.exceptions import TaskRevokedError
from celery.worker import request as requests
from celery.worker import state
from kombu import Connection, Message
from kombu.asynchronous.semaphore import LaxBoundedSemaphore
from kombu.common import QoS

from cachify_tasks._core.commands import Acquire, Command, Inspect, Release
from cachify_tasks._core.replies import Heir
from cachify_tasks._runtime.runtime import Runtime
from cachify_tasks.celery import setup
from cachify_tasks.celery.app import state_of
from cachify_tasks.celery.request import CeleryDelivery, gate_task, request_class
from cachify_tasks.errors import CachifyStoreError
from cachify_tasks.settings import Settings
from tests.worker.fakes import DOWN, Clock, FlakyStore

REQUESTS: Any = requests
CACHE: Any = cache
RUN: Any = bootsteps.RUN  # type: ignore[attr-defined]  # the stubs leave it out
CLOSE: Any = bootsteps.CLOSE  # type: ignore[attr-defined]
QUEUE = "celery"
LEASE_S = 30.0


def plain(holder: str) -> str:
    """A holder without what tells two messages of one id: the message's tag, or the checksum of its body."""
    return holder.partition("#")[0]


class Timer:
    def __init__(self, due: float, every: float | None, call: Callable[[], object]) -> None:
        self.due = due
        self.every = every
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HandHub:
    """kombu's event loop, one iteration at a time, in kombu's order; its timers follow a clock moved by hand.

    Attributes:
        overslept: kombu's loop would have slept, for up to a second, though a callback was to be called.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.on_tick: set[Callable[[], None]] = set()
        self.readers: dict[int, Callable[[], object]] = {}
        self.timers: list[Timer] = []
        self.overslept = False
        self._ready: deque[Callable[[], object]] = deque()

    def call_soon(self, callback: Callable[..., object], *args: object) -> object:
        self._ready.append(lambda: callback(*args))
        return None

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        self.timers.append(Timer(self.clock() + delay, None, lambda: callback(*args)))
        return self.timers[-1]

    def call_repeatedly(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        self.timers.append(Timer(self.clock() + delay, delay, lambda: callback(*args)))
        return self.timers[-1]

    def add_reader(self, fd: int, callback: Callable[..., object], *args: object) -> None:
        self.readers[fd] = lambda: callback(*args)

    def remove_reader(self, fd: int) -> None:
        self.readers.pop(fd, None)

    def turn(self) -> None:
        """One iteration. It does not wait for events."""
        for _ in range(len(self._ready)):
            self._ready.popleft()()
        for timer in [timer for timer in self.timers if timer.due <= self.clock()]:
            self.timers.remove(timer)
            if not timer.cancelled:
                timer.call()
                if timer.every is not None:
                    timer.due = self.clock() + timer.every
                    self.timers.append(timer)
        for tick in list(self.on_tick):
            tick()
        poller = select.poll()
        for fd in self.readers:
            poller.register(fd, select.POLLIN)
        events = poller.poll(0)
        self.overslept = self.overslept or bool(self._ready and not events)
        for fd, _ in events:
            if fd in self.readers:
                self.readers[fd]()

    def reset(self) -> None:
        """What a lost broker connection does: readers, callbacks and timers are forgotten."""
        self.readers.clear()
        self.timers.clear()
        self._ready.clear()
        self.on_tick.clear()


class HandConnection:
    """The way to the store of a gate with an event loop: the test says when a batch is answered."""

    def __init__(self, store: FlakyStore) -> None:
        self._store = store
        self.batches: deque[tuple[list[Command], Callable[[Any], None]]] = deque()
        self.sent: list[list[Command]] = []
        self.watched_again = 0

    def send(self, commands: list[Command], on_replies: Callable[[Any], None]) -> None:
        self.sent.append(commands)
        self.batches.append((commands, on_replies))

    def answer(self) -> None:
        """The store answers the oldest batch; while it is out of reach, the batch fails."""
        commands, on_replies = self.batches.popleft()
        on_replies(DOWN if self._store.down else [self._execute(command) for command in commands])

    def _execute(self, command: Command) -> Any:
        try:
            return self._store.execute(command)
        except CachifyStoreError as error:
            return error

    def drain(self) -> None:
        while self.batches:
            self.answer()

    def watch_again(self) -> None:
        self.watched_again += 1

    def check_overdue(self) -> None:
        """Nothing is overdue here."""


class Job:
    """A task in the pool, which the test begins and ends."""

    def __init__(self, pool: HandPool, target: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> None:
        self._job = id(self)
        self._pool = pool
        self._run = lambda: target(*args, **(kwargs or {}))
        self.options = options
        pool._pool._cache[self._job] = self

    @property
    def task_id(self) -> str:
        return str(self.options["correlation_id"])

    def accept(self, pid: int = 0) -> None:
        self.options["accept_callback"](pid or os.getpid(), time.monotonic())

    def succeed(self) -> None:
        """As in billiard: the process is free for the next task before `on_success` is called."""
        del self._pool._pool._cache[self._job]
        self._pool.release()
        self.options["callback"]((False, "ok", 0.1))

    def hit_hard_time_limit(self) -> None:
        self.options["timeout_callback"](soft=False, timeout=1.0)

    def run(self) -> None:
        """Run it here and now, as a thread of a pool of threads does."""
        del self._pool._pool._cache[self._job]
        self._pool.jobs.remove(self)
        self.options["accept_callback"](os.getpid(), time.monotonic())
        self.options["callback"](self._run())


class HandPool:
    """A worker's pool, whose jobs the test begins and ends."""

    cachify_gate: Any

    def __init__(self, size: int) -> None:
        self.num_processes = size
        self.jobs: list[Job] = []
        self.looks = 0  # for processes that have ended
        self._pool: Any = SimpleNamespace(_cache={}, maintain_pool=self._look)
        self.release: Callable[[], None] = lambda: None

    def apply_async(self, target: Any, args: Any = (), kwargs: Any = None, **options: Any) -> Job:
        self.jobs.append(Job(self, target, args, kwargs, options))
        return self.jobs[-1]

    def _look(self) -> None:
        self.looks += 1

    def ids(self) -> list[str]:
        """Of the tasks that were dispatched, in that order."""
        return [job.task_id for job in self.jobs]


class Channel:
    """Where messages are acknowledged."""

    no_ack_consumers = None

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self.requeued: list[str] = []

    def basic_ack(self, tag: str, multiple: bool = False) -> None:
        self.acknowledged.append(tag)

    def basic_reject(self, tag: str, requeue: bool = False) -> None:
        if requeue:
            self.requeued.append(tag)


class HandWorker:
    """Celery's WorkController and its consumer, with as many processes or threads as `size` says.

    Attributes:
        app: its broker and results are in memory; so is its store, behind a network that can be taken away.
    """

    def __init__(self, pool_cls: type[Any], *, size: int = 2, loop: bool = True, **conf: Any) -> None:
        self.clock = Clock()
        self.store: Any = FlakyStore(self.clock)
        self.app: Any = Celery("by hand", broker="memory://", backend="cache+memory://", set_as_current=True)
        self.app.conf.update(task_publish_retry=False, **conf)
        setup(self.app, url="memory://")
        app_state = state_of(self.app)
        assert app_state is not None
        choice = conf.get("cachify_on_store_error", "retry")
        settings = Settings(url="memory://", lease_ttl=LEASE_S, on_store_error=choice)
        self.runtime = app_state._runtime = Runtime(cast("Any", self.store), settings)
        self.pool_cls = pool_cls
        self.pool = HandPool(size)
        self.hub = HandHub(self.clock) if loop else None
        self.semaphore: Any = None
        if pool_cls.uses_semaphore and loop:
            self.semaphore = LaxBoundedSemaphore(size)
            self.pool.release = self.semaphore.release
            self._quick_release = self.semaphore.release
            self.process_task: Callable[..., object] = self._process_task_sem
        else:
            self.process_task = self._process_task
        self.channel = Channel()
        self.consumer: Any = SimpleNamespace(
            app=self.app, hub=self.hub, pool=self.pool, hostname="w@hand", connection=object(), connection_errors=(),
            blueprint=SimpleNamespace(state=RUN), strategies={}, event_dispatcher=None, disable_rate_limits=True,
            on_task_message=(), task_buckets={}, qos=QoS(lambda **_: None, 8), task_consumer=SimpleNamespace(
                queues=[], accept=None, _active_tags={QUEUE: "tag"}, consuming_from=lambda queue: queue == QUEUE,
            ),
        )  # fmt: skip
        self.gate: Any = None

    def gated_by(self, gate: Any) -> None:
        self.gate = self.pool.cachify_gate = gate
        for name in [name for name in self.app.tasks if not name.startswith("celery.")]:
            gate_task(self.app.tasks[name])
            self.consumer.strategies[name] = object()

    def _process_task(self, request: Any) -> None:
        try:
            request.execute_using_pool(self.pool)
        except TaskRevokedError:
            release = getattr(self, "_quick_release", None)
            if release is not None:
                release()

    def _process_task_sem(self, request: Any) -> object:
        return self.semaphore.acquire(self._process_task, request)

    def request(self, task: str, *args: Any, task_id: str, redelivered: bool = False, **headers: Any) -> Any:
        """A request as the worker makes it of a message that the broker has delivered."""
        sent = self.app.amqp.as_task_v2(task_id, task, args, {})
        message = Message(
            json.dumps(sent.body), delivery_tag=task_id, content_type="application/json", content_encoding="utf-8",
            headers={**sent.headers, **headers}, properties=sent.properties, channel=self.channel,
            delivery_info={"exchange": "", "routing_key": QUEUE, "consumer_tag": "tag", "redelivered": redelivered},
        )  # fmt: skip
        made = self.app.tasks[task]
        cls = REQUESTS.create_request_cls(request_class(made), made, self.pool, "w@hand", None, app=self.app)
        return cls(
            message, app=self.app, hostname="w@hand", task=made, on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
        )  # fmt: skip

    def receive(self, task: str, *args: Any, task_id: str, **options: Any) -> CeleryDelivery:
        """The broker delivers a message; the worker takes it up when there is capacity."""
        request = self.request(task, *args, task_id=task_id, **options)
        state.task_reserved(request)
        self.process_task(request)
        delivery: CeleryDelivery = request.cachify
        return delivery

    def shut_down(self) -> None:
        """A warm shutdown begins."""
        self.consumer.blueprint.state = CLOSE

    def holders(self, pool: str) -> dict[str, bool]:
        """Who holds a slot: is it only reserved?"""
        return {plain(view.holder): view.reserved for view in self.store.memory.execute(Inspect(pool)).holders}

    def parked(self, pool: str) -> int:
        return int(self.store.memory.execute(Inspect(pool)).waiting)

    def acquire_elsewhere(self, pool: str) -> None:
        """Another worker takes the pool's only slot."""
        reply = self.store.memory.execute(
            Acquire(pool=pool, holder="elsewhere", request_id="e", limit=1, lease_ms=10**6, start_ms=10_000)
        )
        assert reply.status == "granted"

    def release_elsewhere(self, pool: str) -> tuple[Heir, ...]:
        """The other worker frees the slot. The heirs that the store names to it."""
        (view,) = self.store.memory.execute(Inspect(pool)).holders
        reply = self.store.memory.execute(
            Release(
                pool=pool, holder="elsewhere", token=view.token, request_id="e", start_ms=10_000, tomb_ms=1000,
                can_start_heirs=True,
            )
        )  # fmt: skip
        heirs: tuple[Heir, ...] = reply.heirs
        return heirs

    def queued(self) -> int:
        """How many messages wait in the broker."""
        with self.app.connection_for_write() as connection:
            queue = connection.SimpleQueue(QUEUE)
            try:
                return int(queue.qsize())
            finally:
                queue.close()

    def close(self) -> None:
        for fd in self.gate._waker._pipe or ():
            os.close(fd)
        state.reset_state()
        with Connection("memory://") as connection:  # one broker, and one result backend, for all apps of this process
            connection.SimpleQueue(QUEUE).clear()
        CACHE._DUMMY_CLIENT_CACHE.clear()
        self.app.close()
