"""The worker's Request, gated: it asks for a slot before it goes to the pool and frees it however the task ends.

Celery makes one subclass of a task's Request for each task when a worker starts (`create_request_cls`), which overrides
`execute_using_pool` and `on_success` without calling what it inherits. `__init_subclass__` wraps those two there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery.exceptions import TimeLimitExceeded
from celery.utils.imports import symbol_by_name

from .._core.commands import Acquire
from .._io.slot import Slot
from ..tasks import ask_for
from .app import engine_of, takes_task, task_policy

ATTEMPT = "cachify_attempt"  # header: "id-of-attempt/times put off/1 if a copy"


def attempt_id(request: Any) -> str:
    """Task id and attempt: retries keep the id, `self.replace` keeps the id and the retries."""
    nesting = request.replaced_task_nesting
    return f"{request.id}:{request.request_dict.get('retries') or 0}" + (f":{nesting}" if nesting else "")


class _Gated:
    """Mixed into a task's Request class."""

    slot: Slot | None = None  # held for this request
    ask: Acquire | None = None  # the arrival's command: one nonce, however often it is sent
    runtime: Any = None  # the gate of the worker that this request came to
    time_limit_hit = False  # its process is being killed

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dispatch = vars(cls).get("execute_using_pool")
        if dispatch is not None:
            cls.execute_using_pool = _asking(cls, dispatch)  # type: ignore[attr-defined]
        on_success = vars(cls).get("on_success")
        if on_success is not None:
            cls.on_success = _ending(on_success)  # type: ignore[attr-defined]

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        error = getattr(exc_info, "exception", None)
        self.time_limit_hit = isinstance(getattr(error, "exc", error), TimeLimitExceeded)
        try:
            return super().on_failure(exc_info, *args, **kwargs)  # type: ignore[misc]
        finally:
            _end(self)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        self.time_limit_hit = self.time_limit_hit or not soft
        try:
            return super().on_timeout(soft, timeout)  # type: ignore[misc]
        finally:
            if not soft:
                _end(self)

    def reject(self, requeue: bool = False) -> Any:
        if requeue:  # freed before it comes again, and remembered as not ended
            _end(self, again=True)
        return super().reject(requeue=requeue)  # type: ignore[misc]

    def cachify_ask(self) -> Acquire:
        """The command by which this arrival asks for a slot.

        Raises:
            TypeError, ValueError: the message's arguments do not fit the function or its key.
        """
        if self.ask is None:
            request: Any = self
            task = request.task
            policy = task_policy(task)
            assert policy is not None
            args = (task, *request.args) if takes_task(task, policy) else tuple(request.args)
            self.ask = ask_for(
                engine_of(request.app), policy, args, request.kwargs or {},
                holder=attempt_id(request), label=f"{request.name} @{request.hostname}", copy=is_copy(request),
            )  # fmt: skip
        return self.ask


def _asking(cls: type, dispatch: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(dispatch)
    def execute_using_pool(self: Any, pool: Any, **kwargs: Any) -> Any:
        return pool.cachify_gate.arrived(self, cls, lambda: dispatch(self, pool, **kwargs))

    return execute_using_pool


def _ending(on_success: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(on_success)
    def ended(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return on_success(self, *args, **kwargs)
        finally:
            _end(self)

    return ended


def _end(request: Any, *, again: bool = False) -> None:
    slot, request.slot = request.slot, None
    if (
        slot is not None
    ):  # not acknowledged (a cancelled run): its message comes again, and must not be taken for a copy
        request.runtime.ended(request, slot, again=again or not request.acknowledged)


@functools.cache
def gated(base: type) -> type:
    """A subclass of a Request class whose requests ask for a slot."""
    return type(f"Gated{base.__name__}", (_Gated, base), {"__module__": __name__})


def gate(task: Any) -> None:
    """Have this task's requests ask for a slot, in workers that start from now on."""
    base = symbol_by_name(task.Request)
    if not issubclass(base, _Gated):
        task.Request = gated(base)


def is_gated(task: Any) -> bool:
    return issubclass(symbol_by_name(task.Request), _Gated)


def _marks(request: Any) -> tuple[int, bool]:
    """How often this attempt was put off, and whether its message is known to be a copy."""
    value = request.request_dict.get(ATTEMPT)
    attempt, count, copy = [*str(value or "").rsplit("/", 2), "", ""][:3]
    if attempt != attempt_id(request) or not count.isdigit():
        return 0, False
    return int(count), copy == "1"


def attempts(request: Any) -> int:
    """How often this attempt was put off because its pool was full."""
    return _marks(request)[0]


def is_copy(request: Any) -> bool:
    """Has the broker delivered this message before?"""
    return bool(request.delivery_info.get("redelivered")) or _marks(request)[1]


def marked(request: Any, count: int) -> str:
    """The header of the message that puts this attempt off once more."""
    return f"{attempt_id(request)}/{count}/{int(is_copy(request))}"
