"""Messages that a worker publishes: as they were delivered, beneath the `apply_async` of their task.

A task's own `apply_async` may route by what it finds in the caller's surroundings, deduplicate, or answer with another
id; `before_task_publish` may set headers of the program that sends. None of this is done a second time: the message has
its first headers, serializer, priority and stamps, and goes to the queue that it came from.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

from celery import Celery
from celery.utils.quorum_queues import detect_quorum_queues
from kombu.transport.native_delayed_delivery import calculate_routing_key

from .._worker.attempt import Header, Hint
from .envelope import HEADER, Envelope


def send_again(app: Celery, envelope: Envelope, header: str, seconds: float) -> None:
    """Send a message again, to be run after a delay.

    Raises:
        Exception: the broker did not take it, however often Celery's `task_publish_retry_policy` had it tried.
    """
    exchange, routing_key = envelope.address
    headers = {**envelope.headers, HEADER: header}
    if seconds > 0:
        headers["eta"] = (app.now() + timedelta(seconds=seconds)).isoformat()
        delayed = _delayed_routing_key(app, envelope, seconds)
        if delayed is not None:
            exchange, routing_key = "celery_delayed_27", delayed
    _publish(app, envelope, exchange, routing_key, headers)


def send_hint(app: Celery, envelope: Envelope, hint: Hint) -> None:
    """Tell a worker that consumes the task's queue to start it: the message itself stays in the store.

    Raises:
        Exception: the broker did not take it.
    """
    attempt, (exchange, routing_key) = envelope.attempt, envelope.address
    own = Header.decode(envelope.headers.get(HEADER), attempt)
    header = replace(own, hint=hint).encode(attempt)
    _publish(app, envelope, exchange, routing_key, {**envelope.headers, HEADER: header})


def _publish(app: Celery, envelope: Envelope, exchange: str, routing_key: str, headers: dict[str, object]) -> None:
    conf = app.conf
    with app.amqp.producer_pool.acquire(block=True) as producer:
        producer.publish(
            envelope.content, exchange=exchange, routing_key=routing_key, headers=headers,
            content_type=envelope.head["content_type"], content_encoding=envelope.head["content_encoding"],
            compression=envelope.compression,
            retry=conf.task_publish_retry, retry_policy=conf.task_publish_retry_policy,
            **envelope.head["properties"],
        )  # fmt: skip


def _delayed_routing_key(app: Celery, envelope: Envelope, seconds: float) -> str | None:
    """Where RabbitMQ delays a message itself, as Celery has it do for quorum queues; None: a worker delays it.

    It counts whole seconds, and refuses zero.
    """
    queue = app.amqp.queues.get(envelope.queue) if envelope.queue else None
    if queue is None or queue.exchange.type == "direct":
        return None
    driver = app.producer_pool.connections.connection.transport.driver_type
    if not detect_quorum_queues(app, driver)[0]:
        return None
    return calculate_routing_key(max(1, math.ceil(seconds)), queue.routing_key)
