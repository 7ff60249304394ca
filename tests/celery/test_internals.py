"""What the adapter relies on in Celery, kombu and billiard without their promise: a release without it fails here."""

import importlib.util
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from billiard import pool
from billiard.pool import ApplyResult
from celery import Celery, _state, bootsteps, signals
from celery.app import base as app_base
from celery.app.task import Context, Task
from celery.backends.base import Backend
from celery.concurrency import asynpool, base, gevent, prefork, solo, thread
from celery.local import PromiseProxy, Proxy
from celery.worker import pidbox, request, state, worker
from celery.worker.consumer import Consumer
from kombu import Connection, Queue
from kombu import Consumer as QueueConsumer
from kombu.asynchronous import hub as hubs
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from cachify_tasks.celery.request import gated_class
from cachify_tasks.celery.time_limits import NOT_ENFORCED

# The stubs know the promised part of them.
REQUEST: Any = request
STATE: Any = _state
STEPS: Any = bootsteps
WORKER: Any = worker
HUBS: Any = hubs
APP_BASE: Any = app_base
CONSUMER: Any = Consumer


class OwnRequest(request.Request):
    pass


@pytest.fixture
def generated() -> type:
    app: Any = Celery("internals", set_as_current=False)

    @app.task(shared=False, name="internals.task")
    def task() -> None: ...

    made: type = REQUEST.create_request_cls(
        gated_class(OwnRequest), app.tasks["internals.task"], SimpleNamespace(apply_async=None), "h", None
    )
    return made


@pytest.mark.parametrize("name", ["execute_using_pool", "on_success"])
def test_the_generated_request_class_overrides_what_we_wrap(generated, name):
    assert name in vars(generated)
    assert vars(generated)[name].__wrapped__.__qualname__.startswith("create_request_cls.")


def test_the_generated_request_class_inherits_the_rest(generated):
    assert generated.__mro__[0].__name__ == "Request"
    for name in ("on_failure", "on_timeout", "reject"):
        assert name not in vars(generated)
        assert getattr(generated, name).__module__ == "cachify_tasks.celery.request"


@pytest.mark.parametrize(
    "name",
    [
        "acknowledge", "reject", "revoked", "execute_using_pool", "on_accepted", "on_success", "on_failure",
        "on_timeout", "send_event", "store_errors", "replaced_task_nesting", "request_dict", "delivery_info",
        "task", "hostname", "acknowledged", "time_start", "worker_pid", "args", "kwargs",
        # Private; without one of them heirs cannot be acknowledged, or dropped jobs not be told from running ones.
        "_context", "_on_ack", "_on_reject", "_apply_result",
    ],
)  # fmt: skip
def test_a_request_has(name):
    assert hasattr(REQUEST.Request, name) or name in REQUEST.Request.__slots__


def test_an_executed_request_asks_its_pool_by_these_names():
    source = inspect.getsource(request.Request.execute_using_pool)

    for name in ("apply_async(", "accept_callback=self.on_accepted", "callback=self.on_success"):
        assert name in source


def test_failure_and_timeout_callbacks_take_these_arguments():
    assert list(inspect.signature(request.Request.on_timeout).parameters) == ["self", "soft", "timeout"]
    assert list(inspect.signature(request.Request.on_failure).parameters)[:2] == ["self", "exc_info"]
    assert "requeue" in inspect.signature(request.Request.reject).parameters


def test_a_worker_gives_and_takes_places_of_its_pool_by_these_names():
    for name in ("_process_task", "_process_task_sem", "register_with_event_loop"):
        assert hasattr(WORKER.WorkController, name)
    assert "_quick_release" in inspect.getsource(WORKER.WorkController._process_task)
    assert prefork.TaskPool.uses_semaphore
    assert not any(kind.TaskPool.uses_semaphore for kind in (solo, thread, gevent))


def test_semaphore_waiting_is_a_list_of_callbacks_with_their_arguments():
    """`_waiting`: heirs are put in front of the messages that wait there for a process."""
    semaphore: Any = LaxBoundedSemaphore(1)
    semaphore.acquire(print, "the first")

    semaphore.acquire(print, "the second")

    waiting = semaphore._waiting
    assert semaphore.value == 0
    assert [(callback, tuple(args)) for callback, args, _ in waiting] == [(print, ("the second",))]
    waiting.insert(0, (print, ("an heir",), {}))


def test_billiard_cache_and_job_tell_which_jobs_have_not_ended():
    """`_pool._cache`, `_job`: after a lost connection, slots of jobs that Celery has dropped are renewed no more."""
    source = inspect.getsource(ApplyResult.__init__)

    assert "self._job = next(job_counter)" in source
    assert "cache[self._job] = self" in source
    assert "self._cache = {}" in inspect.getsource(pool.Pool.__init__)
    assert "self._pool = " in inspect.getsource(prefork.TaskPool.on_start)


def test_billiard_puts_a_new_process_into_the_place_of_one_that_has_ended_when_it_is_told_to_look():
    """`_pool.maintain_pool`: Celery looks too early, and then each 5 s; we do it oftener."""
    assert asynpool.AsynPool.maintain_pool is pool.Pool.maintain_pool
    billiard_pool: Any = pool.Pool
    assert "self._repopulate_pool(joined)" in inspect.getsource(billiard_pool._maintain_pool)


def test_billiard_jobs_tell_which_process_has_them_and_whether_it_accepted_them():
    """`_accepted`, `_write_to`, `_is_alive`: a warm shutdown waits until each job that was written is accepted."""
    asynpool_source = inspect.getsource(asynpool.AsynPool)

    assert "self._accepted = False" in inspect.getsource(ApplyResult.__init__)
    assert vars(ApplyResult)["_write_to"] is None
    assert "job._write_to = proc" in asynpool_source
    assert "add_reader(proc.outqR_fd, handle_result_event, proc.outqR_fd)" in asynpool_source
    assert "job._write_to._is_alive()" in asynpool_source
    assert "if not job._accepted:" in inspect.getsource(asynpool.AsynPool.flush)


def test_apply_result_is_called_for_the_job_of_a_request():
    """`_apply_result`: a reference to the request's job, set when it goes to the pool."""
    assert "self._apply_result = maybe(ref, result)" in inspect.getsource(request.Request.execute_using_pool)


def test_on_ack_and_on_reject_are_called_as_the_store_s_messages_need_it():
    """`_on_ack`, `_on_reject`: what acknowledging a message means is replaced where the store owns it."""
    assert "self._on_ack(logger, self._connection_errors)" in inspect.getsource(request.Request.acknowledge)
    assert "self._on_reject(logger, self._connection_errors, requeue)" in inspect.getsource(request.Request.reject)


def test_limit_task_and_task_buckets_keep_heirs_to_their_rate_limit():
    """`_limit_task`, `task_buckets`, `disable_rate_limits`: an heir waits for its rate limit as a message does."""
    assert list(inspect.signature(CONSUMER._limit_task).parameters) == ["self", "request", "bucket", "tokens"]
    source = inspect.getsource(Consumer.__init__)
    assert "self.disable_rate_limits = " in source
    assert "self.task_buckets = " in source


def test_active_tags_and_consuming_from_tell_the_queues_of_a_consumer():
    """`_active_tags`, `consuming_from`: which queue a message came from, and whether this worker consumes it."""
    with Connection("memory://") as connection:
        consumer: Any = QueueConsumer(connection.channel(), [Queue("internals", routing_key="internals")])
        consumer.consume()

        assert list(consumer._active_tags) == ["internals"]
        assert isinstance(consumer._active_tags["internals"], str)
        assert consumer.consuming_from("internals")
        assert not consumer.consuming_from("another")


def test_node_handlers_has_the_revoke_command():
    """`box.node.handlers`: a worker's `revoke` also looks for parked tasks."""
    app = Celery("handlers", broker="memory://", set_as_current=False)
    box: Any = pidbox.Pidbox(
        SimpleNamespace(app=app, hostname="h", pool=None, controller=SimpleNamespace(use_eventloop=False))
    )

    assert callable(box.node.handlers["revoke"])


def test_orig_run_is_the_function_that_autoretry_wraps():
    """`_orig_run`: the limit of a task with `autoretry_for` is found on the function that it wraps."""
    app: Any = Celery("autoretry", set_as_current=False)

    @app.task(name="internals.autoretry", shared=False, autoretry_for=(KeyError,))
    def task() -> None: ...

    assert app.tasks["internals.autoretry"]._orig_run.__name__ == "task"


def test_a_bound_task_tells_its_class():
    """`on_bound`, `Task.bind`: a task is marked as soon as it belongs to its app."""
    assert "cls.on_bound(app)" in inspect.getsource(Task.bind)


def test_using_execv_says_that_this_process_was_spawned():
    """`USING_EXECV`: in a spawned child, tasks run by a copy of their app that `setup` was not called on."""
    assert APP_BASE.USING_EXECV in (None, False, "", "1", True)
    assert "_app_base.USING_EXECV = True" in inspect.getsource(prefork.process_initializer)


def test_pools_take_callbacks_by_keyword():
    assert {"accept_callback", "callback"} <= set(inspect.signature(base.apply_target).parameters)
    assert {"args", "kwargs"} <= set(inspect.signature(base.BasePool.apply_async).parameters)
    assert hasattr(asynpool.AsynPool, "flush")
    assert hasattr(ApplyResult, "terminate")


def test_the_hub_has_what_we_register():
    hub = HUBS.Hub()
    hub.on_tick.add(print)
    for name in ("call_soon", "call_later", "add_reader", "reset"):
        assert hasattr(hub, name)
    hub.close()


def test_a_running_consumer_is_told_by_its_blueprint():
    assert STEPS.RUN == 1
    assert hasattr(Consumer, "update_strategies")
    assert hasattr(state, "should_stop")
    assert hasattr(state, "should_terminate")
    assert hasattr(signals, "worker_shutdown")


def test_the_request_of_a_child_keeps_what_the_worker_put_in():
    context = Context({"id": "1", "cachify_admission": {"host": "h"}})

    assert vars(context)["cachify_admission"] == {"host": "h"}
    assert "cachify_admission" in (context.headers or {})


def test_a_rescheduled_task_keeps_its_identity():
    app: Any = Celery("again", set_as_current=False)

    @app.task(name="internals.again", shared=False)
    def task() -> None: ...

    chord = {"task": "internals.total"}
    context = Context({
        "id": "kept", "root_id": "root", "parent_id": "parent", "group": "group", "group_index": 3, "priority": 4,
        "chord": chord, "headers": {"own": 1}, "delivery_info": {"routing_key": "q"}, "replaced_task_nesting": 2,
    }, args=(1,), kwargs={})  # fmt: skip

    requeue = task.signature_from_request(context, countdown=2.5, retries=3, headers={"cachify_attempt": "kept:0/1/0"})

    options = requeue.options
    assert (options["task_id"], options["retries"], options["countdown"]) == ("kept", 3, 2.5)
    assert (options["root_id"], options["parent_id"]) == ("root", "parent")
    assert (options["group_id"], options["group_index"], options["chord"]) == ("group", 3, chord)
    assert options["replaced_task_nesting"] == 2
    assert options["headers"]["cachify_attempt"] == "kept:0/1/0"


def test_a_backend_can_mark_a_task_as_revoked_and_resolve_its_chord():
    parameters = inspect.signature(Backend.mark_as_failure).parameters

    assert {"store_result", "call_errbacks", "state", "request"} <= set(parameters)
    assert "request" in inspect.signature(Backend.mark_as_retry).parameters


def test_lazy_tasks_are_what_we_take_them_for():
    app: Any = Celery("lazy", set_as_current=False)

    @app.task(shared=False)
    def task() -> None: ...

    assert type(task) is PromiseProxy
    assert hasattr(task, "__then__")
    assert callable(STATE.connect_on_app_finalize)
    assert callable(STATE._get_active_apps)
    assert STATE.get_current_task() is None
    assert Proxy.__module__ == "celery.local"


def test_a_shared_task_is_a_proxy_whose_function_and_name_can_be_seen():
    from celery import shared_task

    lazy: Any = shared_task

    @lazy(name="internals.shared")
    def shared() -> None: ...

    assert type(shared) is Proxy
    found = inspect.getclosurevars(object.__getattribute__(shared, "_Proxy__local")).nonlocals
    assert found["fun"].__name__ == "shared"
    assert found["name"] == "internals.shared"


@pytest.mark.parametrize("module", sorted(NOT_ENFORCED))
def test_the_pools_without_time_limits_still_drop_them(module):
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text("utf-8")

    assert "soft_time" not in source
    assert ("timeout=timeout" in source) is ("hard" not in NOT_ENFORCED[module][1])


def test_a_worker_and_a_task_have_their_time_limits_by_these_names():
    assert {"time_limit", "soft_time_limit"} <= set(inspect.signature(WORKER.WorkController.setup_defaults).parameters)
    assert Task.time_limit is None
    assert Task.soft_time_limit is None
