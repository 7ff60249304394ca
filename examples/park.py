"""Park: a task that finds its pool full waits in line in the store, and a slot that becomes free is handed to it.

Run it: `python examples/park.py`. What to see:

- six invoices, one at a time, in the order in which they were sent; nobody named a strategy, for this is the default;
- between two of them there is next to no pause: nothing polls, and no process was held by those that waited;
- `waiting` of `celery inspect pools` says how many there are; to the broker's queue length they are gone;
- `priority`: the urgent one goes first; `max_parked` and `then`: of what the queue does not take, something is made.
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
    """It gets the task's own arguments; 0 to 255, and the higher one goes first."""
    return 10 if name.startswith("urgent") else 0


@app.task
@pooled(key="mails", max_size=1, on_full=Park(max_parked=3, then=Drop(result="too many mails"), priority=urgency))
def mail(name: str) -> tuple[str, float]:
    time.sleep(2 if name == "first" else 0.1)
    return f"{name} is sent", time.monotonic()


def pool_shown(name: str) -> dict[str, int]:
    """What `celery -A app inspect pools` shows of a pool; every worker gives the same answer."""
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
