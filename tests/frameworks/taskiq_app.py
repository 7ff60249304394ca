"""The suite's Taskiq broker. Copied beside its workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from cachify_tasks.taskiq import CachifyMiddleware


def make_broker(tasks: dict[str, Callable[..., Any]], url: str, lease_ttl: float) -> RedisStreamBroker:
    middleware = CachifyMiddleware(lease_ttl=lease_ttl, start_timeout=1)  # its url is the broker's
    broker: Any = RedisStreamBroker(url, queue_name="suite", consumer_id="0", xread_block=100)
    broker = broker.with_result_backend(RedisAsyncResultBackend(url, result_ex_time=300)).with_middlewares(middleware)
    for name, function in tasks.items():
        broker.register_task(function, task_name=name)
    made: RedisStreamBroker = broker
    return made
