"""A callable as `on_full`: a task that finds its pool full returns what the callable makes of its arguments.

Run it: `python examples/celery_callback.py`. What to see:

- the first mail is sent; the others are put on a list for the night, each with its own arguments;
- the callable runs in a child process of the worker, where the task would have run.
"""

import os
import time

from celery import Celery

from cachify_tasks import pooled
from cachify_tasks.celery import setup

app = Celery("celery_callback")
setup(app)


def tonight(user: str, subject: str = "hello") -> str:
    return f"{subject!r} to {user}: tonight (decided in process {os.getpid()})"


@app.task
@pooled(key="mail", max_size=1, on_full=tonight)
def mail(user: str, subject: str = "hello") -> str:
    time.sleep(1)  # the work
    return f"{subject!r} to {user}: sent (by process {os.getpid()})"


def main() -> None:
    print(f"this is process {os.getpid()}")
    for result in [mail.delay("ann"), mail.delay("ben", subject="bill"), mail.delay(user="cleo")]:
        print(result.get(timeout=20))


if __name__ == "__main__":
    from _worker import server_and_worker

    with server_and_worker(app):
        main()
