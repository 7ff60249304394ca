"""Park: a task that finds its pool full waits in a queue in Redis and starts when it gets a slot.

Run it: `python examples/park.py`. What to see:

- six invoices run one at a time, in the order in which they were sent; they have no `on_full`, as this is the default;
- there is nearly no pause between two of them, although nothing polls and no process waits;
- `waiting` in `celery inspect pools` counts them; the broker's queue length does not;
- `priority`: the urgent mail goes first; `max_parked` and `then`: a mail that the queue does not take is dropped.
"""

import time
from itertools import pairwise

from celery import Celery

from cachify_tasks import Drop, Park, pooled
from cachify_tasks.celery import setup

app = Celery("park")
setup(app)


@app.task
@pooled(key="invoices-{tenant}", max_size=1)
def invoice(tenant: str, number: int) -> tuple[int, float, float]:
    started = time.monotonic()
    time.sleep(0.2)  # the work
    return number, started, time.monotonic()


def urgency(name: str) -> int:
    """Gets the task's arguments. Returns 0 to 255; a higher number goes first."""
    return 10 if name.startswith("urgent") else 0


@app.task
@pooled(key="mails", max_size=1, on_full=Park(max_parked=3, then=Drop(result="too many mails"), priority=urgency))
def mail(name: str) -> tuple[str, float]:
    time.sleep(2 if name == "first" else 0.1)
    return f"{name} is sent", time.monotonic()


def pool_shown(name: str) -> dict[str, int]:
    """What `celery -A app inspect pools` shows for a pool. Every worker returns the same, so one is enough."""
    (answer,) = app.control.broadcast("pools", reply=True, limit=1, timeout=5)
    (pools,) = answer.values()
    return pools.get(name, {"held": 0, "waiting": 0})


def wait_in_line(name: str, count: int) -> None:
    while pool_shown(name)["waiting"] < count:
        pass


def main() -> None:
    sent = [invoice.delay("acme", number) for number in range(1, 7)]
    wait_in_line("invoices-acme", 1)
    print("in line: yes")
    runs = sorted((result.get(timeout=20) for result in sent), key=lambda run: run[1])
    print("in the order of their starts:", [number for number, _, _ in runs])
    pauses = [after[1] - before[2] for before, after in pairwise(runs)]
    print("one at a time:", all(pause > 0 for pause in pauses))
    print(f"longest pause between two: {max(pauses) * 1000:.0f} ms")

    mails = [mail.delay("first")]
    while not pool_shown("mails")["held"]:
        pass
    for waiting, name in enumerate(["second", "third", "urgent"], 1):
        mails.append(mail.delay(name))
        wait_in_line("mails", waiting)
    print(mail.delay("fifth").get(timeout=20))
    answers = [result.get(timeout=20) for result in mails]
    print([text for text, _ in sorted(answers, key=lambda answer: answer[1])])


if __name__ == "__main__":
    from _worker import server_and_worker

    with server_and_worker(app):
        main()
