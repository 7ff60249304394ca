"""The worker's Request, gated: it asks for a slot before it goes to the pool, and frees it however the task ends.

When a worker starts, Celery makes one subclass of a task's Request for each task (`create_request_cls`). It overrides
`execute_using_pool` and `on_success` without calling what it inherits; so `__init_subclass__` wraps those two there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from celery.exceptions import TaskRevokedError, TimeLimitExceeded
from celery.utils.imports import symbol_by_name

from .delivery import CeleryDelivery, TaskFacts

if TYPE_CHECKING:
    from .internals import Pool, Request, Task


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

    def on_failure(self, exc_info: Any, *args: object, **kwargs: object) -> object:
        error = getattr(exc_info, "exception", None)
        self.cachify.time_limit_hit = isinstance(getattr(error, "exc", error), TimeLimitExceeded)
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
            gate.core.handovers.on_turn(delivery)
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
