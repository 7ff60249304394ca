"""What the worker's main process does with a task that may not run now.

Each function ends the message: after it, nothing of this delivery is left in the worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from celery import signals, states
from celery.app.task import Context
from celery.exceptions import NotRegistered, Retry, TaskRevokedError, WorkerLostError
from celery.utils.log import get_logger
from celery.worker.state import task_ready

from .._worker.endings import Deadly, Ending, Revoked, Unknown, Unreadable
from .._worker.port import next_header
from .envelope import HEADER, Envelope, opened
from .publishing import send_again

if TYPE_CHECKING:
    from .internals import Consumer, Request
    from .request import CeleryDelivery

logger = get_logger("cachify_tasks.celery")


def send_later(delivery: CeleryDelivery, seconds: float, deferrals: int, why: str, *, visible: bool) -> None:
    """Send this attempt again after a delay: same id, retries, and place in chain, group and chord.

    The new message is published before the old one is acknowledged: a crash in between makes a copy, which its identity
    tells.

    Args:
        visible: show it as a retry (state, event, signal); not for a copy of a run that is going on.

    Raises:
        Exception: the broker did not take it; nothing has been acknowledged.
    """
    request = delivery.request
    header, envelope = next_header(delivery, deferrals), delivery.envelope()
    if envelope:
        send_again(request.app, opened(envelope), header, seconds)
    else:  # a message of Celery's first protocol: it cannot be sent again as it is
        context = request._context
        headers = {**(context.headers or {}), HEADER: header}
        again = request.task.signature_from_request(
            context, countdown=seconds, retries=context.retries, headers=headers
        )
        again.apply_async()
    if visible:
        try:
            _show_retry(request, Retry(message=why, when=seconds))  # type: ignore[arg-type]  # the stubs know no float
        except Exception as error:  # noqa: BLE001  # a result backend that is down; the message is on its way already
            logger.error("%s[%s] cannot be shown as RETRY: %r", request.name, request.id, error)
    acknowledge(delivery)


def _show_retry(request: Request, reason: Retry) -> None:
    task, context = request.task, request._context
    if request.store_errors:
        task.backend.mark_as_retry(request.id, reason, request=context)
    request.send_event("task-retried", exception=repr(reason), traceback="")
    task.request_stack.push(context)
    try:
        signals.task_retry.send(sender=task, request=context, reason=reason, einfo=None)
    finally:
        task.request_stack.pop()


def revoke(delivery: CeleryDelivery, why: str) -> None:
    """End the task as REVOKED, without running it; its chord and chain learn it."""
    request = delivery.request
    task, context = request.task, request._context
    task.backend.mark_as_failure(
        request.id, TaskRevokedError(why), request=context, store_result=request.store_errors, call_errbacks=False,
        state=states.REVOKED,
    )  # fmt: skip
    request.send_event("task-revoked", terminated=False, signum=None, expired=False)
    signals.task_revoked.send(sender=task, request=context, terminated=False, signum=None, expired=False)
    acknowledge(delivery)


def fail(delivery: CeleryDelivery, error: Exception) -> None:
    """End the task as FAILURE with this error, without running it; its errbacks, chord and chain learn it."""
    request = delivery.request
    task, context = request.task, request._context
    task.backend.mark_as_failure(request.id, error, request=context, store_result=request.store_errors)
    request.send_event("task-failed", exception=repr(error), traceback="")
    signals.task_failure.send(
        sender=task, task_id=request.id, exception=error, args=request.args, kwargs=request.kwargs, traceback=None,
        einfo=None,
    )  # fmt: skip
    acknowledge(delivery)


def end_unrun(
    consumer: Consumer, task_id: str, message: Envelope | None, why: Ending, context: Context | None
) -> None:  # fmt: skip
    """Record the end of a parked task that no worker starts, as Celery does where it meets such a message.

    Args:
        context: of its request; None: it cannot be made.
    """
    headers = {} if message is None else message.headers
    name = str(headers.get("task", "?"))
    request = context or Context(
        {"id": task_id, "task": name, "root_id": headers.get("root_id"), "parent_id": headers.get("parent_id")}
    )
    state: str = states.FAILURE
    error: Exception
    match why:
        case Revoked():
            state, error = states.REVOKED, TaskRevokedError(str(why))
        case Unknown():
            error = NotRegistered(name)
        case Deadly():
            error = WorkerLostError(str(why))
        case Unreadable(cause):
            error = cause
        case _:
            assert_never(why)
    event = "task-revoked" if state == states.REVOKED else "task-failed"
    consumer.app.backend.mark_as_failure(
        task_id, error, request=request, call_errbacks=context is not None, state=state
    )
    if consumer.event_dispatcher is not None:
        consumer.event_dispatcher.send(event, uuid=task_id, exception=repr(error), traceback="")
    if isinstance(why, Unknown):
        signals.task_unknown.send(sender=consumer, message=None, exc=error, name=name, id=task_id)


def acknowledge(delivery: CeleryDelivery) -> None:
    """Be done with this delivery: its message is acknowledged."""
    task_ready(delivery.request)
    delivery.request.acknowledge()


def leave(delivery: CeleryDelivery) -> None:
    """Be done with this arrival of a task whose message the store keeps."""
    task_ready(delivery.request)
