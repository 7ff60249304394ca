"""One arrival of a Celery task's message, as `_worker` sees it: `Delivery`, around Celery's request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._core.policy import Policy
from .._worker.attempt import Attempt, Header
from .._worker.port import DeliveryState, Stored
from .app import takes_task, task_policy
from .envelope import HEADER, queue_of, sealed

if TYPE_CHECKING:
    from .gate import Gate
    from .internals import Request


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a worker needs to know of a task, found once.

    Attributes:
        takes_task: the function's first argument is the task itself (`bind=True`).
    """

    policy: Policy | None
    takes_task: bool

    @classmethod
    def of(cls, task: Any) -> TaskFacts:
        policy = task_policy(task)
        return cls(policy, policy is not None and takes_task(task, policy))


class CeleryDelivery:
    """See `Delivery` for what is not said here.

    Attributes:
        request: Celery's request. Its attribute `cachify` is this object: all that we remember of it is here.
        admitted: the last verdict was to run it.
        gate: of the worker that it came to; set when there is capacity for it, or when it was handed over.
        time_limit_hit: its process is being killed for its hard time limit.
        in_pool_queue: it was handed over for capacity, and a reconnect need not enlist it again.
    """

    __slots__ = (
        "admitted", "attempt", "facts", "gate", "header", "in_pool_queue", "received", "request", "state",
        "time_limit_hit",
    )  # fmt: skip

    def __init__(self, request: Request, facts: TaskFacts) -> None:
        self.request = request
        self.facts = facts
        self.state = DeliveryState()
        self.received = time.monotonic()
        self.admitted = False
        self.gate: Gate | None = None
        self.time_limit_hit = False
        self.in_pool_queue = False
        properties = request.request_dict
        attempt = Attempt(request.id, int(properties.get("retries") or 0), request.replaced_task_nesting)  # type: ignore[call-overload]
        text = properties.pop(HEADER, None)  # not for the task's eyes, nor for the message of its retry
        self.header = Header.decode(text, attempt) if text else Header()
        self.attempt = replace(attempt, handovers=self.header.handovers) if self.header.handovers else attempt
        hint = self.header.hint
        if hint is not None:
            self.state.stored = Stored.of_hint(hint)

    @property
    def policy(self) -> Policy | None:
        return self.facts.policy

    @property
    def task_name(self) -> str:
        return self.request.name

    @property
    def label(self) -> str:
        return f"{self.request.name} @{self.request.hostname}"

    @property
    def is_copy(self) -> bool:
        return self._delivered_before or self._overstayed

    @property
    def _delivered_before(self) -> bool:
        return self.header.is_copy or bool(self.request.delivery_info.get("redelivered"))

    @property
    def _overstayed(self) -> bool:
        """Has it waited here for so long that its broker takes it for lost and may have delivered it again?"""
        timeout = getattr(getattr(self.request.message, "channel", None), "visibility_timeout", None)
        return timeout is not None and time.monotonic() - self.received >= timeout

    def mark_as_copy(self) -> None:
        """From now on it counts as one that the broker may have delivered before."""
        self.header = replace(self.header, is_copy=True)

    def arguments(self) -> tuple[tuple[object, ...], Mapping[str, object]]:
        args, kwargs = self.own_arguments()
        return ((self.request.task, *args) if self.facts.takes_task else args), kwargs

    def own_arguments(self) -> tuple[tuple[object, ...], Mapping[str, object]]:
        return tuple(self.request.args), self.request.kwargs or {}

    def envelope(self) -> bytes:
        assert self.gate is not None, "a delivery asks for its slot at a gate"
        return sealed(self.request.message, queue_of(self.request.message, self.gate.worker.consumer))

    def message_priority(self) -> int:
        """With Redis the smaller number goes first."""
        given: int = int(self.request.delivery_info.get("priority") or 0)  # type: ignore[call-overload]
        conf = self.request.app.conf
        url = str(conf.broker_read_url or conf.broker_url or "")
        smaller_first = url.startswith(("redis", "sentinel"))
        return 9 - min(given, 9) if smaller_first else given
