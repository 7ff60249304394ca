"""A worker is killed between any two steps of parking and handing over: nothing is lost, and little runs twice."""

import signal
import time

import pytest

from tests.support.waiting import wait_until

# The worker kills itself there once, when the test has made the file.
HOOK = """
import os, signal
from pathlib import Path
from cachify_tasks._core.commands import StartReserved
from cachify_tasks._worker.handovers import HandOvers
from cachify_tasks._worker.held_slots import HeldSlots
from cachify_tasks._worker.verdicts import Done
from cachify_tasks._worker.worker import Worker
from cachify_tasks.celery.gate import Gate
from cachify_tasks.celery.prefork_gate import PreforkGate


def has_a_start(gate):
    return any(isinstance(entry.command, StartReserved) for entry in gate.core.outbox.entries)


def die_at(owner, name, when=lambda *_: True):
    real = getattr(owner, name)

    def call(*args, **kwargs):
        if Path("die").exists() and when(*args):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(owner, name, call)


match {point!r}:
    case "parked, not acknowledged":
        die_at(Gate, "apply", lambda gate, delivery, verdict: isinstance(verdict, Done))
    case "handed over, not started":
        die_at(HandOvers, "start")
    case "reserved for its worker, not sent to a process":
        die_at(HeldSlots, "hold", lambda slots, delivery, *_: delivery.state.stored is not None)
    case "started, not reported to the store":
        die_at(PreforkGate, "flush", has_a_start)
    case "started, not acknowledged":
        die_at(Worker, "on_acknowledged")
    case "ended, not released":
        die_at(Worker, "_release", lambda worker, slot, *_: slot.holder.startswith("heir"))
"""


@pytest.mark.parametrize(
    ("point", "task", "most"),
    [
        ("parked, not acknowledged", "park", 1),
        ("handed over, not started", "park", 1),
        ("handed over, not started", "park_late", 1),
        ("reserved for its worker, not sent to a process", "park", 1),
        ("reserved for its worker, not sent to a process", "park_late", 1),
        ("started, not reported to the store", "park", 2),
        ("started, not reported to the store", "park_late", 2),
        ("started, not acknowledged", "park", 2),
        ("ended, not released", "park", 1),
        ("ended, not released", "park_late", 2),
    ],
)
def test_parked_tasks_run_though_their_worker_was_killed(make_shop, point, task, most):
    shop = make_shop(
        cachify_lease_ttl=3, cachify_start_timeout=1, broker_transport_options={"visibility_timeout": 1},
        worker_prefetch_multiplier=8,
    )  # fmt: skip
    text = (shop.folder / "app.py").read_text()
    (shop.folder / "app.py").write_text(text + HOOK.format(point=point))
    with shop.worker(name="first", concurrency=3) as first:
        shop.send("park", "crash", "ok", "crash.go")
        shop.runs.wait_begun("crash")
        if point.startswith("parked"):
            shop.open("die")
        sent = [shop.send(task, "crash", task_id="heir")]
        if not point.startswith("parked"):
            sent.append(shop.send(task, "crash", task_id="next"))
            shop.wait_parked(2)
            shop.open("die")
            shop.open("crash.go")
        assert first.wait_ended() == -signal.SIGKILL

    (shop.folder / "die").unlink()
    if point.startswith("parked"):  # not before: what the Redis transport is just fetching is lost with a worker
        sent.append(shop.send(task, "crash", task_id="next"))
    killed = time.monotonic()
    wait_until(lambda: time.monotonic() - killed > 1.1)  # then kombu restores as a worker connects
    with shop.worker(name="second", concurrency=3):
        assert [one.get() for one in sent] == ["ok done"] * 2
        shop.wait_quiet()

    ids = shop.ids("crash")[1:]
    assert 1 <= ids.count("heir") <= most
    assert ids.count("next") == 1
