"""Raise: a task that finds its pool full fails with CachifyPoolFullError.

Run it: `python examples/celery_raise.py`. What to see:

- of three reports that are sent at once for one customer, one runs and two end as FAILURE;
- a report for another customer runs at the same time, because its key is another pool;
- with Celery's own `autoretry_for` all three succeed, one after the other.
"""

import time

from celery import Celery

from cachify_tasks import CachifyPoolFullError, Raise, pooled
from cachify_tasks.celery import setup

app = Celery("celery_raise")
setup(app)


@app.task
@pooled(key="report-{customer}", max_size=1, on_full=Raise())
def report(customer: str) -> str:
    time.sleep(1)  # the work
    return f"report for {customer}"


@app.task(autoretry_for=(CachifyPoolFullError,), default_retry_delay=0.5, max_retries=None)
@pooled(key="patient-report-{customer}", max_size=1, on_full=Raise())
def patient_report(customer: str) -> str:
    time.sleep(0.2)
    return f"report for {customer}"


def main() -> None:
    sent = [report.delay("ann"), report.delay("ann"), report.delay("ann"), report.delay("ben")]
    for result in sent:
        answer = result.get(timeout=20, propagate=False)
        print(f"{result.state}: {answer}")

    retried = [patient_report.delay("ann") for _ in range(3)]
    print("with autoretry_for:", [result.get(timeout=20) for result in retried])


if __name__ == "__main__":
    from _worker import server_and_worker

    with server_and_worker(app):
        main()
