"""`app.control.revoke(id)` reaches tasks that are parked: no worker has their message, so one looks in the store."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from .._worker.ending_tasks import end_revoked

if TYPE_CHECKING:
    from .gate import Gate
    from .internals import Consumer

logger = get_logger("cachify_tasks.celery")


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
        try:
            end_revoked(gate.runtime, gate, [task_id] if isinstance(task_id, str) else task_id or ())
        except Exception as error:  # noqa: BLE001  # at its turn a revoked task is found out all the same
            logger.error("parked tasks could not be looked for: %r", error)
        return answer

    node.handlers = {**node.handlers, "revoke": revoke}
