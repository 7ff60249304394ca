"""Tasks, many pools and no fault: each task runs exactly once, and in its turn.

`CACHIFY_CHAOS=full` (`make chaos`) runs the full size.
"""

import os
import time

import pytest

from cachify_tasks.testing import assert_sound
from tests.chaos import judge
from tests.chaos.driver import Sender, fleet, sender_app, write_storm

FULL = os.getenv("CACHIFY_CHAOS") == "full"
TASKS, KEYS = (2000, 20) if FULL else (300, 6)
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600 if FULL else 300)]


def test_every_task_runs_exactly_once(tmp_path, redis_url, broker_url):
    started = time.monotonic()
    app = sender_app(broker_url, "storm")
    sender = Sender(app, KEYS)
    write_storm(tmp_path, broker=broker_url, store=redis_url)
    sender.send(TASKS, (0.0, 0.02), 60)

    with fleet(tmp_path) as workers:
        workers.wait_done(TASKS)
        workers.stop()
        workers.runs.read()
    app.close()

    runs = judge.runs_of(workers.runs.lines)
    print(f"{len(sender.sent)} tasks, {len(runs)} runs, {time.monotonic() - started:.0f} s")  # noqa: T201  # asked for
    assert set(judge.often(runs)) == set(sender.sent)
    assert set(judge.often(runs).values()) == {1}
    assert judge.over_limit(runs) == {}
    assert not [run for run in runs if run.lost or run.end is None]
    assert_sound(redis_url, settled=True)


def test_tasks_begin_in_the_order_in_which_they_were_sent(tmp_path, redis_url, broker_url):
    started = time.monotonic()
    app = sender_app(broker_url, "storm")
    sender = Sender(app, KEYS, limit=1)
    write_storm(tmp_path, broker=broker_url, store=redis_url)
    sender.send(TASKS, (0.0, 0.01), 60)

    with fleet(tmp_path, names=("a",), prefetch=1) as workers:
        workers.wait_done(TASKS)
        workers.stop()
        workers.runs.read()
    app.close()

    runs = judge.runs_of(workers.runs.lines)
    wrong = judge.inversions(runs, list(sender.sent))
    print(f"{len(runs)} runs, {wrong} inversions, {time.monotonic() - started:.0f} s")  # noqa: T201  # asked for
    assert len(runs) == TASKS
    assert wrong == 0
    assert {most for most, _ in judge.peaks(runs).values()} == {1}
