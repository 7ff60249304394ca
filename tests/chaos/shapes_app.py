"""Tasks of many shapes, for `test_shapes`: an app with pools, and the same app without. Copied beside each worker."""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

from celery import Celery, Task, current_task

from cachify_tasks import Drop, Park, Raise, Reschedule, pooled
from cachify_tasks.celery import setup

STRATEGIES: dict[str, Any] = {
    "park": Park(), "reschedule": Reschedule(delay=0.05, max_delay=0.2), "drop": Drop(), "raise": Raise(),
}  # fmt: skip
IN_WORKER = "SHOP_RUNS" in os.environ  # a spawned child runs a copy of the app, which has shared tasks alone
RETRY_S = 0.2  # without a pause Celery often stores RETRY after the state in which the task has ended
SHAPES = list(itertools.product(STRATEGIES, ("below", "above"), (False, True), (False, True), ("plain", "own")))


class Own(Task):  # type: ignore[type-arg]  # it takes arguments in the stubs alone
    """A base class as users write them: it wraps what it inherits."""

    def apply_async(self, *args: Any, **options: Any) -> Any:
        return super().apply_async(*args, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


def name_of(strategy: str, order: str, bind: bool, late: bool, base: str) -> str:
    return f"{strategy}-{order}-{'bound' if bind else 'free'}-{'late' if late else 'early'}-{base}"


def body(task: Any, key: str, spec: dict[str, Any], more: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Note what the body sees, and end as the spec says."""
    request = task.request
    seen = [
        request.id, request.task, [key, spec, *more], named, request.retries,
        {name: value for name, value in (request.headers or {}).items() if name.startswith("x-")},
        bool(getattr(request, "compression", None)),
    ]  # fmt: skip
    line = json.dumps(seen).encode() + b"\n"
    file = os.open(os.environ.get("SHAPES_SEEN", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)
    finally:
        os.close(file)
    if request.retries < spec["retries"]:
        raise KeyError("once more") if spec["auto"] else task.retry(countdown=RETRY_S)
    if spec["fails"]:
        raise ValueError(spec["n"])
    return spec["n"]


def make(broker: str, store: str, *, gated: bool, **conf: Any) -> Any:
    app: Any = Celery("shapes", broker=broker, backend=broker, set_as_current=IN_WORKER)
    app.conf.update(
        broker_connection_retry_on_startup=True, result_expires=600, worker_hijack_root_logger=False,
        task_default_queue="gated" if gated else "plain", include=["app"] if IN_WORKER else [], **conf,
    )  # fmt: skip
    if gated:
        setup(app, url=store)
    for shape in SHAPES:
        _add(app, gated, *shape)
    return app


def _add(app: Any, gated: bool, strategy: str, order: str, bind: bool, late: bool, base: str) -> None:
    def free(key: str, spec: dict[str, Any], *more: Any, **named: Any) -> Any:
        return body(current_task, key, spec, more, named)

    def bound(self: Any, key: str, spec: dict[str, Any], *more: Any, **named: Any) -> Any:
        return body(self, key, spec, more, named)

    gate: Any = pooled(key="shapes-{key}", max_size=2, on_full=STRATEGIES[strategy]) if gated else lambda made: made
    options: dict[str, Any] = {"base": Own} if base == "own" else {}
    task = app.task(
        name=name_of(strategy, order, bind, late, base), bind=bind, acks_late=late, shared=IN_WORKER,
        autoretry_for=(KeyError,), default_retry_delay=RETRY_S, max_retries=9, **options,
    )  # fmt: skip
    function = bound if bind else free
    if order == "below":
        task(gate(function))
    else:
        gate(task(function))
