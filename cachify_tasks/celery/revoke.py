"""`app.control.revoke(id)` reaches tasks that are parked: no worker has their message, so one looks in the store."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .._worker.ending_tasks import end_revoked

if TYPE_CHECKING:
    from .gate import Gate
    from .internals import Consumer


def listen(consumer: Consumer, gate: Gate) -> None:
    """Have this worker's `revoke` command look for parked tasks too, after Celery's own has run."""
    box = next((step.box for step in consumer.blueprint.order if hasattr(step, "box")), None)
    if box is None:  # this worker takes no commands
        return
    node = box.node
    own = node.handlers["revoke"]
    if getattr(own, "__wrapped__", None) is not None:
        return

    @functools.wraps(own)
    def revoke(state: object, task_id: str | Iterable[str] | None, **options: object) -> object:
        answer = own(state, task_id, **options)
        end_revoked(gate.runtime, gate, [task_id] if isinstance(task_id, str) else task_id or ())
        return answer

    node.handlers = {**node.handlers, "revoke": revoke}
