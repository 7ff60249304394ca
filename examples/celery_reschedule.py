"""Reschedule: a task that finds its pool full is sent again a little later, as the same task.

Run it: `python examples/celery_reschedule.py`. What to see:

- four processes, two tenants, at most two tasks at once for each: no tenant takes all processes;
- all tasks succeed, with the ids that they were sent with; those that had to wait were in the state RETRY;
- `max_attempts` and `then`: a task that was rescheduled often enough is dropped.

A task without `on_full` does not do this: it is parked, see `park.py`.
"""

import time

from celery import Celery

from cachify_tasks import Drop, Reschedule, pooled
from cachify_tasks.celery import setup

app = Celery("celery_reschedule")
setup(app)


@app.task
@pooled(key="tenant-{tenant}", max_size=2, on_full=Reschedule(delay=0.1, max_delay=0.5))
def sync_orders(tenant: str) -> tuple[float, float]:
    started = time.monotonic()
    time.sleep(0.5)  # the work
    return started, time.monotonic()


@app.task
@pooled(key="ping", max_size=1, on_full=Reschedule(delay=0.1, max_attempts=2, then=Drop()))
def ping() -> None:
    time.sleep(2)


def main() -> None:
    began = time.monotonic()
    sent = {tenant: [sync_orders.delay(tenant) for _ in range(4)] for tenant in ("acme", "bolt")}
    for tenant, results in sent.items():
        for started, ended in sorted(result.get(timeout=20) for result in results):
            print(f"{tenant}: {started - began:4.1f} s to {ended - began:4.1f} s")

    pings = [ping.delay(), ping.delay()]
    for result in pings:
        result.get(timeout=20, propagate=False)
    print("two pings:", sorted(result.state for result in pings))


if __name__ == "__main__":
    from _worker import server_and_worker

    with server_and_worker(app):
        main()
