"""The worker's Request, gated: it asks for a slot before it goes to the pool, and frees it however the task ends.

`CeleryDelivery` goes along with each request: all that we remember of it.

When a worker starts, Celery makes one subclass of a task's Request for each task (`create_request_cls`). It overrides
`execute_using_pool` and `on_success` without calling what it inherits; so `__init_subclass__` wraps those two there.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, cast

from celery.app.task import Task as CeleryTask
from celery.exceptions import TaskRevokedError, TimeLimitExceeded, WorkerLostError
from celery.utils.imports import symbol_by_name

from .._core.policy import Policy, policy_of
from .._worker.attempt import Attempt, Header
from .._worker.limits import TaskLimit
from .._worker.port import DeliveryState, Stored
from .._worker.verdicts import Fail, Start, StartWith, StartWithoutSlot
from .app import runtime_of, takes_task, task_policy
from .envelope import HEADER, queue_of, sealed, sending_of

if TYPE_CHECKING:
    from .gate import Gate
    from .internals import Pool, Request, Task

HANDLERS: Final = ("on_failure", "after_return", "__call__")
NEW: Final = Header()  # of a message that comes for the first time
ADMISSION: Final = "cachify_admission"  # where what was decided is, in the request that is sent to the child


class Gated:
    """Mixed into a task's Request class. All that we remember of a request is in its `cachify`."""

    cachify: CeleryDelivery
    cachify_facts: ClassVar[TaskFacts | None] = None  # of the one task that the generated class is for

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        request, cls = cast("Request", self), type(self)
        if cls.cachify_facts is None:
            cls.cachify_facts = TaskFacts.of(request.task)
        self.cachify = CeleryDelivery(request, cls.cachify_facts)

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.cachify_facts = None
        dispatch = vars(cls).get("execute_using_pool")
        if dispatch is not None:
            cls.execute_using_pool = _asking_first(cls, dispatch)  # type: ignore[attr-defined]
        on_success = vars(cls).get("on_success")
        if on_success is not None:
            cls.on_success = _then_freeing(on_success)  # type: ignore[attr-defined]

    def on_failure(self, exc_info: object, *args: object, **kwargs: object) -> object:
        error = getattr(exc_info, "exception", None)
        error = getattr(error, "exc", error)
        delivery = self.cachify
        delivery.time_limit_hit = isinstance(error, TimeLimitExceeded)
        delivery.state.died = (
            isinstance(error, WorkerLostError) and delivery.gate is not None and delivery.gate.accepting
        )
        try:
            return super().on_failure(exc_info, *args, **kwargs)  # type: ignore[misc]
        finally:
            _on_run_end(self)

    def on_timeout(self, soft: bool, timeout: float) -> object:
        self.cachify.time_limit_hit = self.cachify.time_limit_hit or not soft
        try:
            return super().on_timeout(soft, timeout)  # type: ignore[misc]
        finally:
            if not soft:
                _on_run_end(self)

    def revoked(self) -> bool:
        """For a hint the store is asked first: its task may have run in the meantime, or be running now."""
        stored = self.cachify.state.stored
        if stored is not None and stored.hinted:
            return False
        return bool(super().revoked())  # type: ignore[misc]

    def reject(self, requeue: bool = False) -> object:
        if requeue:  # free the slot before the message comes again, and remember that the attempt has not ended
            _on_run_end(self, requeue=True)
        return super().reject(requeue=requeue)  # type: ignore[misc]


def _asking_first(cls: type[Gated], dispatch: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(dispatch)
    def execute_using_pool(self: Gated, pool: Pool, **kwargs: object) -> object:
        delivery, gate = self.cachify, pool.cachify_gate
        delivery.gate = gate
        delivery.in_pool_queue = True
        try:
            return gate.on_capacity(delivery, cls, functools.partial(dispatch, self, pool, **kwargs))
        except TaskRevokedError:
            gate.core.on_turn(delivery)
            raise

    return execute_using_pool


def _then_freeing(on_success: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(on_success)
    def ended(self: Gated, *args: object, **kwargs: object) -> object:
        try:
            return on_success(self, *args, **kwargs)
        finally:
            _on_run_end(self)

    return ended


def _on_run_end(request: Gated, *, requeue: bool = False) -> None:
    delivery = request.cachify
    if delivery.state.slot is not None and delivery.gate is not None:
        # Not acknowledged (a cancelled run): its message comes again, and must not be taken for a copy.
        delivery.gate.on_run_end(delivery, requeue=requeue or not delivery.request.acknowledged)


_gated_classes: dict[type, type] = {}


def gated_class(base: type) -> type:
    """A subclass of a Request class whose requests ask for a slot; one for each class."""
    if base not in _gated_classes:
        _gated_classes[base] = type(f"Gated{base.__name__}", (Gated, base), {"__module__": __name__})
    return _gated_classes[base]


def request_class(task: Task) -> type[object]:
    return cast("type[object]", symbol_by_name(task.Request))


def gate_task(task: Task) -> None:
    """Have this task's requests ask for a slot, in workers that start from now on."""
    base = request_class(task)
    if not issubclass(base, Gated):
        setattr(task, "Request", gated_class(base))  # noqa: B010  # its type is that of a name, and a class will do


def is_gated(task: Task) -> bool:
    return issubclass(request_class(task), Gated)


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a worker needs to know of a task, found once.

    Attributes:
        takes_task: the function's first argument is the task itself (`bind=True`).
        can_fail_unrun: no retry and no handler of the task's own is to see that it fails.
    """

    limit: TaskLimit | None
    takes_task: bool
    can_fail_unrun: bool = False

    @classmethod
    def of(cls, task: Task) -> TaskFacts:
        policy = task_policy(task)
        if policy is None:
            return cls(None, takes_task=False)
        return cls(
            TaskLimit.of(policy, runtime_of(task.app)), takes_task(task, policy),
            can_fail_unrun=_can_fail_unrun(task, policy),
        )  # fmt: skip


def _can_fail_unrun(task: Task, policy: Policy) -> bool:
    overrides = any(getattr(type(task), name) is not getattr(CeleryTask, name) for name in HANDLERS)
    retries = hasattr(task, "_orig_run")  # `autoretry_for`
    decorated = policy_of(getattr(task.run, "__wrapped__", None)) is policy  # by what may catch the error
    return not (overrides or retries or decorated)


class CeleryDelivery:
    """One Celery request, as `_worker` sees it: what is not said here is in `Delivery` (`_worker/port.py`).

    Attributes:
        request: Celery's request. Its attribute `cachify` is this object: all that we remember of it is here.
        admitted: the last verdict was to run it.
        gate: of the worker that it came to; set when there is capacity for it, or when it was handed over.
        time_limit_hit: its process is being killed for its hard time limit.
        in_pool_queue: Celery's pool has it, or it waits there for a process; a reconnect need not enlist it again.
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
        retries = int(properties.get("retries") or 0)  # type: ignore[call-overload]
        text = properties.pop(HEADER, None)  # not for the task's eyes, nor for the message of its retry
        header = Header.decode(text, Attempt(request.id, retries, request.replaced_task_nesting)) if text else NEW
        sending = header.sending or ("" if facts.limit is None else sending_of(request.message))
        self.attempt = Attempt(request.id, retries, request.replaced_task_nesting, header.handovers, sending)
        self.header = header
        if header.hint is not None:
            self.state.stored = Stored.of_hint(header.hint)
            if header.hint.ran:
                self.tell_redelivered()

    @property
    def limit(self) -> TaskLimit | None:
        return self.facts.limit

    def admit(self, verdict: Start | StartWith | StartWithoutSlot | Fail) -> None:
        """Let it run. What was decided travels with the request to where the task runs: see `child_admission`."""
        self.admitted = True
        properties, slot, command = self.request.request_dict, self.state.slot, self.state.command
        properties.pop(ADMISSION, None)  # of an earlier attempt, or forged
        match verdict:
            case Start():
                if slot is not None and command is not None:  # else its task has no limit
                    properties[ADMISSION] = {"slot": [command.pool, command.holder, slot.token, command.request_id]}
            case StartWith(full):
                properties[ADMISSION] = {"full": [full.key, full.limit, full.held, full.attempt]}
            case StartWithoutSlot():
                properties[ADMISSION] = {"open": True}
            case Fail(kind, message):
                properties[ADMISSION] = {"failure": [kind, message]}

    def tell_redelivered(self) -> None:
        """The task reads of its request what it would read if its broker had delivered it again after a run."""
        self.request.delivery_info["redelivered"] = True

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
        header = replace(self.header, sending=self.attempt.sending, hint=None).encode(self.attempt)
        return sealed(self.request.message, queue_of(self.request.message, self.gate.worker.consumer), header)

    def message_priority(self) -> int:
        """With Redis the smaller number goes first."""
        given: int = int(self.request.delivery_info.get("priority") or 0)  # type: ignore[call-overload]
        conf = self.request.app.conf
        url = str(conf.broker_read_url or conf.broker_url or "")
        smaller_first = url.startswith(("redis", "sentinel"))
        return 9 - min(given, 9) if smaller_first else given
