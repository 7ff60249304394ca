"""The bootsteps by which a worker is gated."""

from __future__ import annotations

import atexit
import functools
from typing import Any, Final

from celery import bootsteps, signals
from celery.exceptions import ImproperlyConfigured
from celery.utils.log import get_logger

from .._core.commands import Ping
from .._core.decisions import waiting_of
from .._store.redis_store import denied
from .._worker.requests import default_on_full
from ..errors import CachifyError, CachifyStoreError
from .app import join_global, mark_tasks, place, task_policy
from .gate import Gate
from .inline_gate import BlockingGate, InlineGate
from .prefork_gate import HubGate
from .reaper import Reaper
from .request import gate, is_gated, is_hint
from .revoke import listen

logger = get_logger("cachify_tasks.celery")

_MEANWHILE: Final = {"retry": "wait", "run": "run without a limit", "raise": "fail"}  # by on_store_error


class Gates(bootsteps.StartStopStep):
    """Put a gate on every task with a policy, before the worker consumes."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.gate: Gate | None = None
        self.reaper: Reaper | None = None

    def start(self, worker: Any) -> None:
        app = worker.app
        try:
            runtime = join_global(app)
        except CachifyError as error:
            raise ImproperlyConfigured(str(error)) from None
        if runtime.store.local and worker.pool_cls.uses_semaphore:
            raise ImproperlyConfigured(
                "cachify_url memory:// is for tests: it is the memory of one process, and this worker has several; use "
                "a redis:// URL, or the pools solo, threads or gevent"
            )
        _refuse_waiting(waiting_of(default_on_full(runtime)), "default_on_full")
        self._greet(runtime)
        self.gate = worker.pool.cachify_gate = _kind(worker)(runtime, worker)
        signals.worker_shutdown.connect(self._left, sender=worker, weak=False)  # after the pool has stopped,
        atexit.register(self._left)  # but not after a cold shutdown
        self.reaper = Reaper(self.gate)
        self.reaper.start()
        for task in gated_tasks(app):
            policy = task_policy(task)
            assert policy is not None
            if policy.runtime is not None and place(policy.runtime) != place(runtime):
                raise ImproperlyConfigured(
                    f"{task.name} is under `pooled` of a Cachify on {policy.runtime.store.shown}, and its app's slots "
                    f"are in {runtime.store.shown}: use the function `pooled`, or give both one url and prefix"
                )
            _refuse_waiting(policy.waits(), f"on_full of {task.name}")
            gate(task)
            if policy.on_full is None:
                logger.warning(
                    "%s has on_full=None: when its pool is full it is dropped, with the result None", task.name
                )

    def _greet(self, runtime: Any) -> None:
        """Wrong credentials end the worker now; a store that is out of reach does not."""
        try:
            runtime.store.execute(Ping())
        except CachifyStoreError as error:
            if denied(error.__cause__):
                raise ImproperlyConfigured(f"cachify_url: {error}") from None
            choice = runtime.settings.on_store_error
            logger.error(
                "%s; until it answers, tasks with a pool %s", error, _MEANWHILE.get(choice, _MEANWHILE["retry"])
            )
        else:
            logger.info("cachify: slots in %s, lease %g s", runtime.store.shown, runtime.lease_ms / 1000)
            policy = runtime.store.eviction()
            if policy not in ("", "noeviction"):
                logger.warning(
                    "the store %s evicts keys when its memory is full (maxmemory-policy %s): slots would be forgotten, "
                    "limits exceeded; set noeviction",
                    runtime.store.shown,
                    policy,
                )
        default_on_full(runtime)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        if self.gate is not None:
            self.gate.register(hub)

    def close(self, worker: Any) -> None:
        if self.gate is not None:
            self.gate.drain()

    def stop(self, worker: Any) -> None:
        if self.gate is not None:
            self.gate.drain()
            self.gate.heirs.pass_on()

    def _left(self, **_: Any) -> None:
        gate, self.gate = self.gate, None
        if self.reaper is not None:
            self.reaper.stop()
        atexit.unregister(self._left)
        if gate is not None:
            gate.left()


def _refuse_waiting(waiting: Any, what: str) -> None:
    if waiting is not None:
        raise ImproperlyConfigured(
            f"{what} is Wait(), which is for functions: the task would keep its worker waiting. Give Park(): it waits "
            "in the same queue, at no cost"
        )


def _kind(worker: Any) -> type[Gate]:
    if not worker.pool_cls.uses_semaphore:
        return InlineGate
    return BlockingGate if worker.hub is None else HubGate


class CheckGates(bootsteps.StartStopStep):
    """Refuse to consume while a task with a policy is not gated: it would run without a limit."""

    requires = ("celery.worker.consumer.tasks:Tasks", "celery.worker.consumer.control:Control")

    def start(self, consumer: Any) -> None:
        app = consumer.app
        late = [task for task in gated_tasks(app) if not is_gated(task)]
        if late:  # made after this worker began to start
            for task in late:
                policy = task_policy(task)
                _refuse_waiting(policy and policy.waits(), f"on_full of {task.name}")
                gate(task)
            consumer.update_strategies()
        ungated = [task.name for task in gated_tasks(app) if not is_gated(task)]
        if hasattr(consumer.pool, "cachify_gate"):
            listen(consumer, consumer.pool.cachify_gate)
            _look_for_hints(consumer)
            if consumer.hub is None:  # else the start of the loop tells
                consumer.pool.cachify_gate.register(None)
        if ungated or not hasattr(consumer.pool, "cachify_gate"):
            raise ImproperlyConfigured(f"these tasks have a pool and are not gated: {', '.join(ungated) or 'all'}")


def _look_for_hints(consumer: Any) -> None:
    """A task that has no pool any more may be called for one that was parked when it had: the store keeps its message,
    and the hint must not run beside that one.
    """
    for name, strategy in consumer.strategies.items():
        task = consumer.app.tasks[name]
        if not is_gated(task):
            consumer.strategies[name] = functools.partial(_received, consumer, task, strategy)


def _received(consumer: Any, task: Any, strategy: Any, message: Any, *rest: Any) -> Any:
    if is_hint(message.headers or {}):
        gate(task)
        strategy = consumer.strategies[task.name] = task.start_strategy(consumer.app, consumer)
    return strategy(message, *rest)


def gated_tasks(app: Any) -> list[Any]:
    """The app's tasks that have a policy."""
    mark_tasks(app)
    return [task for task in app.tasks.values() if task_policy(task) is not None]
