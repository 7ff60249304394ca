"""Drop: a task that finds its pool full is not run.

Run it: `python examples/celery_drop.py`. What to see:

- `Drop()`: the second refresh of a feed ends as REVOKED while the first one runs, so nothing is done twice;
- `Drop(result=...)`: the task ends as SUCCESS with that result, so its chain or chord goes on.
"""

import time

from celery import Celery, chain

from cachify_tasks import Drop, pooled
from cachify_tasks.celery import setup

app = Celery("celery_drop")
setup(app)


@app.task
@pooled(key="refresh-{feed}", max_size=1, on_full=Drop())
def refresh(feed: str) -> str:
    time.sleep(1)  # the work
    return f"{feed} refreshed"


@app.task
@pooled(key="count-{feed}", max_size=1, on_full=Drop(result=0))
def count_new(feed: str) -> int:
    time.sleep(1)
    return 17


@app.task
def tell(new: int) -> str:
    return f"{new} new articles"


def main() -> None:
    for result in [refresh.delay("news"), refresh.delay("news")]:
        result.get(timeout=20, propagate=False)
        print(f"Drop():         {result.state}")

    for result in [chain(count_new.s("news"), tell.s()).delay() for _ in range(2)]:
        print(f"Drop(result=0): {result.get(timeout=20)}")


if __name__ == "__main__":
    from _worker import server_and_worker

    with server_and_worker(app):
        main()
