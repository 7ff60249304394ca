"""CachedFallback: a task that finds its pool full returns its last good result for the same arguments.

Run it: `python examples/celery_cached_fallback.py`. What to see, while the only slot is taken:

- a search that has succeeded before returns that result at once;
- a search that has never succeeded returns the default.
"""

import time

from celery import Celery

from cachify_tasks import CachedFallback, pooled
from cachify_tasks.celery import setup

app = Celery("celery_cached_fallback")
setup(app)


@app.task
@pooled(key="search", max_size=1, on_full=CachedFallback(ttl=300, default=[]))
def search(words: str, seconds: float = 0.0) -> list[str]:
    time.sleep(seconds)  # the work
    return [f"a page about {words}"]


def wait_until_held(slots: int) -> None:
    while search.size("any words") != slots:
        time.sleep(0.02)


def main() -> None:
    print("free:", search.delay("redis").get(timeout=20))
    wait_until_held(0)  # a result can be read a moment before its slot is free

    slow = search.delay("everything", seconds=2)
    wait_until_held(1)
    print("full:", search.delay("redis").get(timeout=20))
    print("full, never searched before:", search.delay("celery").get(timeout=20))
    print("the slow one is still running:", slow.state != "SUCCESS")

    print("then:", slow.get(timeout=20))


if __name__ == "__main__":
    from _worker import server_and_worker

    with server_and_worker(app):
        main()
