"""The app of the Celery benchmarks. Its worker's kind comes from the environment: plain, or gated."""

from __future__ import annotations

import os

from celery import Celery

from cachify_tasks import pooled
from cachify_tasks.celery import setup

BROKER = os.environ["BENCH_BROKER"]
KIND = os.environ.get("BENCH_KIND", "plain")

app = Celery("bench", broker=BROKER, backend=None)
app.conf.update(
    task_ignore_result=True,
    task_default_queue=f"bench-{KIND}",
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
)
if KIND != "plain":
    setup(app, url=os.environ["BENCH_STORE"])


def nothing(key: str) -> None:
    return None


if KIND == "plain":
    app.task(name="work")(nothing)
else:
    app.task(name="work")(pooled(key="bench-{key}", max_size=1000)(nothing))
app.task(name="free")(nothing)


@app.task(name="mark")
def mark(key: str) -> None:
    """The end of a batch: a key in the broker's server."""
    import redis

    with redis.Redis.from_url(BROKER) as client:
        client.rpush(key, 1)
