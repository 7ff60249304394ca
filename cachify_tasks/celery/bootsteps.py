"""The bootsteps that put a gate on a worker, in the order in which Celery runs them.

`InstallGate` runs when the worker starts, before it consumes; `CheckGates` each time it connects to its broker.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery import bootsteps, signals
from celery.exceptions import ImproperlyConfigured
from celery.utils.log import get_logger

from .._runtime.runtime import Runtime
from .._worker.attempt import hint_of
from .._worker.greeting import check_default, check_limit, greet
from .._worker.reaper import Reaper
from ..errors import CachifyError, CachifyInitError
from .app import PREFIX, join_global, mark_tasks, runtime_of, task_policy
from .envelope import HEADER, attempt_of
from .gate import Gate
from .inline_gate import BlockingGate, InlineGate
from .prefork_gate import PreforkGate
from .request import gate_task, is_gated
from .revoke import listen
from .time_limits import warn_of_unenforced_limits

if TYPE_CHECKING:
    from celery import Celery
    from kombu import Message

    from .internals import Consumer, Hub, Task, Worker

logger = get_logger("cachify_tasks.celery")


class InstallGate(bootsteps.StartStopStep):
    """Put a gate on the worker, and on every task with a policy."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Worker, **options: object) -> None:
        super().__init__(worker, **options)
        mark_tasks(worker.app)  # before the pool forks its processes
        self.gate: Gate | None = None
        self.reaper: Reaper | None = None

    def start(self, worker: Worker) -> None:
        with _improper():
            runtime = _runtime(worker)
            check_default(runtime)
            greet(runtime, setting=f"{PREFIX}url")
        self.gate = worker.pool.cachify_gate = _gate_class(worker)(runtime, worker)
        signals.worker_shutdown.connect(self._on_shutdown, sender=worker, weak=False)  # after the pool has stopped,
        atexit.register(self._on_shutdown)  # but not after a cold shutdown
        if worker.consumer is not None:
            worker.consumer.on_task_request = self.gate.on_task_request
        self.reaper = Reaper(runtime, self.gate)
        self.reaper.start()
        tasks = limited_tasks(worker.app)
        warn_of_unenforced_limits(worker, tasks)
        for task in tasks:
            _check_task(task, runtime)
            gate_task(task)

    def register_with_event_loop(self, worker: Worker, hub: Hub) -> None:
        if self.gate is not None:
            self.gate.register(hub)

    def close(self, worker: Worker) -> None:
        if self.gate is not None:
            self.gate.on_shutdown_begins()

    def stop(self, worker: Worker) -> None:
        if self.gate is not None:
            self.gate.drain()
            self.gate.pass_on()

    def _on_shutdown(self, **_: object) -> None:
        gate, self.gate = self.gate, None
        if self.reaper is not None:
            self.reaper.stop()
        atexit.unregister(self._on_shutdown)
        if gate is not None:
            gate.on_shutdown()


def _runtime(worker: Worker) -> Runtime:
    """The app's runtime, if this kind of worker can use its store."""
    runtime = join_global(worker.app)
    if runtime.store.local and worker.pool_cls.uses_semaphore:
        raise CachifyInitError(
            "cachify_url memory:// is for tests: it is the memory of one process, and this worker has several; use "
            "a redis:// URL, or the pools solo, threads or gevent"
        )
    return runtime


@contextmanager
def _improper() -> Iterator[None]:
    """Celery shows this error alone, without a traceback."""
    try:
        yield
    except CachifyError as error:
        raise ImproperlyConfigured(str(error)) from None


def _check_task(task: Task, runtime: Runtime) -> None:
    policy = task_policy(task)
    assert policy is not None
    with _improper():
        check_limit(task.name, policy, runtime)


def _gate_class(worker: Worker) -> type[Gate]:
    if not worker.pool_cls.uses_semaphore:
        return InlineGate
    return BlockingGate if worker.hub is None else PreforkGate


class CheckGates(bootsteps.StartStopStep):
    """Refuse to consume while a task with a policy is not gated: it would run without a limit."""

    requires = ("celery.worker.consumer.tasks:Tasks", "celery.worker.consumer.control:Control")

    def start(self, consumer: Consumer) -> None:
        tasks = limited_tasks(consumer.app)
        late = [task for task in tasks if not is_gated(task)]  # made after this worker began to start
        for task in late:
            _check_task(task, runtime_of(consumer.app))
            gate_task(task)
        if late:
            consumer.update_strategies()
        gate = getattr(consumer.pool, "cachify_gate", None)
        if gate is not None:
            listen(consumer, gate)
            _look_for_hints(consumer)
            _answer_unknown_hints(consumer, gate)
            if consumer.hub is None:  # else the event loop registers the gate when it starts
                gate.register(None)
        ungated = [task.name for task in tasks if not is_gated(task)]
        if ungated or gate is None:
            raise ImproperlyConfigured(f"these tasks have a pool and are not gated: {', '.join(ungated) or 'all'}")


def _look_for_hints(consumer: Consumer) -> None:
    """A task may have lost its pool in a deploy while messages of it are parked, and a hint may arrive for one.

    The store has the task's message; the hint must not run beside it.
    """
    for name, strategy in consumer.strategies.items():
        task = consumer.app.tasks[name]
        if not is_gated(task):
            consumer.strategies[name] = functools.partial(_receive, consumer, task, strategy)


def _receive(
    consumer: Consumer, task: Task, strategy: Callable[..., object], message: Message, *rest: object
) -> object:
    if hint_of((message.headers or {}).get(HEADER)):
        gate_task(task)
        strategy = consumer.strategies[task.name] = task.start_strategy(consumer.app, consumer)
    return strategy(message, *rest)


def _answer_unknown_hints(consumer: Consumer, gate: Gate) -> None:
    """A hint at a task that this worker does not know must not end the task: the store still has it."""
    own = consumer.on_unknown_task

    def on_unknown_task(body: object, message: Message, error: Exception) -> None:
        headers = message.headers or {}
        hint = hint_of(headers.get(HEADER))
        if hint is None:
            own(body, message, error)
            return
        message.ack_log_error(logger, consumer.connection_errors)
        gate.core.handovers.on_unknown_hint(hint, attempt_of(headers).holder)

    consumer.on_unknown_task = on_unknown_task


def limited_tasks(app: Celery) -> list[Task]:
    """The app's tasks that have a policy."""
    mark_tasks(app)
    return [task for task in app.tasks.values() if task_policy(task) is not None]
