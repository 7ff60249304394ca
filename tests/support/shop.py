"""The Celery app of the tests: tasks that stamp their runs and do as they are told. Copied beside each worker."""

from __future__ import annotations

import contextlib
import enum
import functools
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import Celery, current_task, shared_task
from celery.concurrency.asynpool import AsynPool
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from kombu.transport import filesystem
from kombu.utils.json import dumps
from pydantic import BaseModel

from cachify_tasks import CachedFallback, Drop, LeaseLost, Park, Raise, Reschedule, current_slot, pooled
from cachify_tasks.celery import setup

LONG_S = 120.0  # longer than a test waits for anything
QUICK = Reschedule(delay=0.05, max_delay=0.2)


class Level(enum.IntEnum):
    URGENT = 5


class Order(BaseModel):
    tenant: str
    items: int = 1


def stamp(event: str, task: Any, key: str, **more: Any) -> None:
    """Add a line to the runs of this folder; `t` is monotonic and the same clock in all processes."""
    request = getattr(task, "request", None)
    line = {"event": event, "task": getattr(task, "name", ""), "id": request and request.id, "key": key}
    line |= {"t": time.monotonic(), "pid": os.getpid(), **more}
    file = os.open(os.environ.get("SHOP_RUNS", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


@contextlib.contextmanager
def stamped(task: Any, key: str) -> Iterator[None]:
    """Stamp begin and end of a run; a run without an end was killed."""
    slot = current_slot()
    stamp("begin", task, key, token=slot.token, holder=slot.holder, pool=slot.key, retries=task.request.retries)
    try:
        yield
    finally:
        stamp("end", task, key)


def runs_of(task_id: str) -> int:
    """How often a task has begun; the messages themselves need not tell."""
    lines = Path(os.environ.get("SHOP_RUNS", os.devnull)).read_text().split("\n")[:-1]
    return sum(line["id"] == task_id and line["event"] == "begin" for line in map(json.loads, lines))


def wait_for(gate: str, seconds: float = LONG_S) -> None:
    """Until the test makes the file of that name."""
    until = time.monotonic() + seconds
    while gate and not Path(gate).exists():
        if time.monotonic() > until:
            raise TimeoutError(f"nobody opened {gate}")
        time.sleep(0.005)


def behave(task: Any, mode: str, gate: str) -> str:
    """End in one of the ways a task can end."""
    wait_for(gate)
    first = runs_of(task.request.id) == 1
    match mode:
        case "error":
            raise RuntimeError("as told")
        case "retry" if first:
            raise task.retry(countdown=0.05)
        case "ignore":
            raise Ignore
        case "reject":
            raise Reject("as told")
        case "requeue" if first:
            raise Reject("as told", requeue=True)
        case "soft":
            with contextlib.suppress(SoftTimeLimitExceeded):
                time.sleep(LONG_S)
            raise RuntimeError("soft limit")
        case "stubborn":  # does not end when it is asked to
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _stay(task, LONG_S)
        case "hang" if first:
            _stay(task, LONG_S)
        case "die" if first:
            os.kill(os.getpid(), signal.SIGKILL)
        case _ if mode.startswith("sleep-"):
            time.sleep(float(mode.removeprefix("sleep-")))
    return f"{mode} done"


def _stay(task: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stamp("tick", task, "")
        try:
            time.sleep(0.01)
        except SoftTimeLimitExceeded:
            continue


def supervise_often() -> None:
    """Celery looks for prefork processes that have ended every 5 s; the workers of the tests do so more often."""
    pool: Any = AsynPool
    pool.timers = property(lambda self: {self.maintain_pool: 0.25})


def whole_files() -> None:
    """A message over files has its name when it is whole: kombu ends a worker that reads one being written."""

    def put(self: Any, queue: str, payload: Any, **_: Any) -> None:
        path = Path(self.data_folder_out, f"{round(time.monotonic() * 1000)}_{uuid4()}.{queue}.msg")
        written = path.with_suffix(".new")
        written.write_text(dumps(payload), "utf-8")
        written.rename(path)

    channel: Any = filesystem.Channel
    channel._put = put


def make_app(broker: str, backend: str, store: str | None = None, *, gated: bool = True, **conf: Any) -> Celery:
    """An app with every task; `conf` may name settings of the adapter too."""
    app = Celery("shop", broker=broker, backend=backend, set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True, result_expires=300, worker_hijack_root_logger=False,
        worker_send_task_events=False, task_default_queue=conf.pop("queue", "shop"),
    )  # fmt: skip
    if broker == "memory://":  # between two looks at an empty queue
        conf.setdefault("broker_transport_options", {"polling_interval": 0.02})
    app.conf.update(conf)
    supervise_often()
    if broker.startswith("filesystem:"):
        whole_files()
    if gated:
        setup(app, **({"url": store} if store else {}))
    _add_tasks(app)
    return app


def _add_tasks(app: Any) -> None:
    task = functools.partial(app.task, shared=False)  # else they would be in every app of the process

    @task(name="one", bind=True)
    @pooled(key="one-{key}", max_size=1, on_full=QUICK)
    def one(self: Any, key: str, mode: str = "ok", gate: str = "") -> str:
        with stamped(self, key):
            return behave(self, mode, gate)

    @task(name="late", bind=True, acks_late=True, reject_on_worker_lost=True)
    @pooled(key="one-{key}", max_size=1, on_full=QUICK)
    def late(self: Any, key: str, mode: str = "ok", gate: str = "") -> str:
        with stamped(self, key):
            return behave(self, mode, gate)

    @task(name="two", bind=True)
    @pooled(key="two-{key}", max_size=2, on_full=QUICK)
    def two(self: Any, key: str, mode: str = "ok", gate: str = "") -> str:
        with stamped(self, key):
            return behave(self, mode, gate)

    @task(name="hot", bind=True)
    @pooled(key="one-{key}", max_size=1, on_full=Reschedule(delay=0.01, max_delay=0.02))
    def hot(self: Any, key: str) -> str:
        with stamped(self, key):
            return "ok done"

    @task(name="echo")
    @pooled(key="echo-{number}", max_size=1, on_full=QUICK)
    def echo(number: int) -> int:
        return number

    @task(name="plain", bind=True)
    def plain(self: Any, key: str, mode: str = "ok", gate: str = "") -> str:
        stamp("begin", self, key)
        try:
            return behave(self, mode, gate)
        finally:
            stamp("end", self, key)

    @task(name="add")
    @pooled(key="add", max_size=1, on_full=QUICK)
    def add(x: int, y: int) -> int:
        return x + y

    @task(name="total")
    def total(numbers: list[Any]) -> Any:
        return sum(number for number in numbers if number is not None)

    _add_full_tasks(task)
    _add_parking_tasks(task)

    @task(name="busy", bind=True)
    @pooled(key="busy", max_size=1, on_full=QUICK)
    def busy(self: Any, gate: str = "") -> str:
        with stamped(self, "busy"):
            return behave(self, "ok", gate)

    @task(name="defaulted", bind=True)
    @pooled(key="busy", max_size=1)
    def defaulted(self: Any, value: int = 0) -> int:
        return value

    @task(name="ordered", pydantic=True)
    @pooled(key="order-{order.tenant}", max_size=1, on_full=QUICK)
    def ordered(order: Order) -> str:
        return f"{current_slot().key} x{order.items}"

    _add_ways(app, task)

    @task(name="replacing", bind=True)
    @pooled(key="replacing", max_size=1, on_full=QUICK)
    def replacing(self: Any, value: int) -> Any:
        return self.replace(app.tasks["add"].s(value, value))

    @task(name="loses", bind=True)
    @pooled(key="loses-{key}", max_size=1, on_full=QUICK)
    def loses(self: Any, key: str) -> str:
        slot = current_slot()
        slot.check()
        # As if the store had given it to somebody else: no one else can renew a slot that has been released.
        slot.store.execute(slot.release_command(requeue=True))
        try:
            slot.check()
        except LeaseLost as error:
            return f"LeaseLost: {str(error)[:12]}"
        return "held"

    @task(name="flaky", bind=True, autoretry_for=(KeyError,), retry_backoff=False, default_retry_delay=0.05)
    @pooled(key="flaky", max_size=1, on_full=QUICK)
    def flaky(self: Any, failures: int) -> Any:
        stamp("begin", self, "flaky", token=current_slot().token, retries=self.request.retries)
        if self.request.retries < failures:
            raise KeyError("not yet")
        return self.request.retries


def _add_parking_tasks(task: Any) -> None:
    @task(name="park", bind=True)
    @pooled(key="park-{key}", max_size=1, on_full=Park())
    def park(self: Any, key: str, mode: str = "ok", gate: str = "") -> str:
        with stamped(self, key):
            return behave(self, mode, gate)

    @task(name="park_late", bind=True, acks_late=True, reject_on_worker_lost=True)
    @pooled(key="park-{key}", max_size=1, on_full=Park())
    def park_late(self: Any, key: str, mode: str = "ok", gate: str = "") -> str:
        with stamped(self, key):
            return behave(self, mode, gate)

    def parked(**options: Any) -> Any:
        return pooled(key="park-{key}", max_size=1, **options)

    @task(name="park_default", bind=True)
    @parked()
    def park_default(self: Any, key: str, mode: str = "ok", gate: str = "") -> str:
        with stamped(self, key):
            return behave(self, mode, gate)

    @task(name="park_limited", bind=True, rate_limit="4/s")
    @parked(on_full=Park())
    def park_limited(self: Any, key: str, mode: str = "ok", gate: str = "") -> str:
        with stamped(self, key):
            return behave(self, mode, gate)

    @task(name="park_flaky", bind=True, autoretry_for=(KeyError,), retry_backoff=False, default_retry_delay=0.05)
    @parked(on_full=Park())
    def park_flaky(self: Any, key: str, failures: int = 1) -> int:
        with stamped(self, key):
            if self.request.retries < failures:
                raise KeyError("not yet")
            return int(self.request.retries)

    @task(name="park_tells", bind=True)
    @parked(on_full=Park())
    def park_tells(self: Any, key: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        with stamped(self, key):
            names = (
                "root_id", "parent_id", "reply_to", "retries", "eta", "expires", "group", "group_index", "timelimit",
                "argsrepr", "kwargsrepr", "shadow", "ignore_result", "stamps", "stamped_headers", "callbacks",
                "errbacks", "chain", "chord", "correlation_id", "origin", "replaced_task_nesting",
            )  # fmt: skip
            told = {name: getattr(self.request, name, None) for name in names}
            return told | {
                "args": [key, *args], "kwargs": kwargs, "headers": self.request.headers,
                "priority": self.request.delivery_info.get("priority"),
            }  # fmt: skip

    @task(name="park_first", bind=True)
    @parked(on_full=Park(priority=lambda key, level=0, *_: Level.URGENT if level == 5 else level))
    def park_first(self: Any, key: str, level: Any = 0) -> Any:
        with stamped(self, key):
            return level

    @task(name="park_message", bind=True)
    @parked(on_full=Park(priority="message"))
    def park_message(self: Any, key: str, value: Any = 0) -> Any:
        with stamped(self, key):
            return value

    def limited(name: str, then: Any) -> None:
        """Two tasks for one strategy: one for too many in the queue, one for too long in it."""
        for kind, limits in (("few", {"max_parked": 1}), ("old", {"max_age": 0.2})):

            @task(name=f"park_{kind}_{name}", bind=True)
            @parked(on_full=Park(**limits, then=then))
            def answer(self: Any, key: str, value: int = 0) -> Any:
                with stamped(self, key):
                    return value

    limited("drop", Drop())
    limited("drop_with", Drop(result=7))
    limited("raise", Raise())
    limited("again", QUICK)
    limited("hot", Reschedule(delay=0.01, max_delay=0.01))
    limited("cached", CachedFallback(ttl=60, default=-1))
    limited("called", lambda *args: ["called", *args])


class Rude:
    """A strategy that a user wrote badly."""

    def decide(self, full: Any) -> Any:
        raise ZeroDivisionError(f"asked about {full.key}")

    def keeps(self) -> None:
        return None


def _add_full_tasks(task: Any) -> None:
    """One task a strategy; all share a pool of one slot."""

    def full_task(name: str, on_full: Any, **options: Any) -> None:
        @task(name=name, bind=True)
        @pooled(key="busy", max_size=1, on_full=on_full, **options)
        def answer(self: Any, value: int = 0) -> Any:
            return value

    full_task("rude", Rude())
    full_task("raises", Raise())
    full_task("drops", Drop())
    full_task("drops_with", Drop(result=7))
    full_task("gives_up", Reschedule(delay=0.05, max_attempts=2))
    full_task("gives_up_7", Reschedule(delay=0.05, max_attempts=2, then=Drop(result=7)))
    full_task("falls_back", CachedFallback(ttl=60, default=-1))
    full_task("none", None)
    full_task("strict", Drop(), raise_on_full=True)

    @task(name="calls", bind=True)
    @pooled(key="busy", max_size=1, on_full=lambda *args, **kwargs: [list(args), kwargs, os.getpid()])
    def calls(self: Any, *args: Any, **kwargs: Any) -> Any:
        return "ran"


WAYS = (
    "way_below", "way_above", "way_bound_below", "way_bound_above", "way_shared", "way_shared_above", "way_class_below",
    "way_class",
)  # fmt: skip


def run_way(task: Any, key: str, seconds: float) -> list[Any]:
    slot = current_slot()
    stamp("begin", task, key, token=slot.token)
    time.sleep(seconds)
    slot.check()
    stamp("end", task, key)
    return [slot.key, slot.holder, slot.token > 0]


WAY_LIMIT = pooled(key="way-{key}", max_size=1, on_full=QUICK)


@shared_task(name="way_shared")
@WAY_LIMIT
def way_shared(key: str, seconds: float = 0.0) -> list[Any]:
    return run_way(current_task, key, seconds)


@WAY_LIMIT
@shared_task(name="way_shared_above")
def way_shared_above(key: str, seconds: float = 0.0) -> list[Any]:
    return run_way(current_task, key, seconds)


def _add_ways(app: Any, task: Any) -> None:
    """The stackings of the two decorators; each takes `key, seconds` and answers what it knows of its slot."""
    limit = WAY_LIMIT

    @task(name="way_below")
    @limit
    def way_below(key: str, seconds: float = 0.0) -> list[Any]:
        return run_way(current_task, key, seconds)

    @limit
    @task(name="way_above")
    def way_above(key: str, seconds: float = 0.0) -> list[Any]:
        return run_way(current_task, key, seconds)

    @task(name="way_bound_below", bind=True)
    @limit
    def way_bound_below(self: Any, key: str, seconds: float = 0.0) -> list[Any]:
        return run_way(self, key, seconds)

    @limit
    @task(name="way_bound_above", bind=True)
    def way_bound_above(self: Any, key: str, seconds: float = 0.0) -> list[Any]:
        return run_way(self, key, seconds)

    class WayClassBelow(app.Task):  # type: ignore[misc]  # a class of this app
        name = "way_class_below"

        @limit
        def run(self, key: str, seconds: float = 0.0) -> list[Any]:
            return run_way(self, key, seconds)

    class WayClass(app.Task):  # type: ignore[misc]
        name = "way_class"

        def run(self, key: str, seconds: float = 0.0) -> list[Any]:
            return run_way(self, key, seconds)

    app.register_task(WayClassBelow())
    limit(app.register_task(WayClass()))
