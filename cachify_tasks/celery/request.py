"""The worker's Request, gated: it asks for a slot before it goes to the pool and frees it however the task ends.

Celery makes one subclass of a task's Request for each task when a worker starts (`create_request_cls`), which overrides
`execute_using_pool` and `on_success` without calling what it inherits. `__init_subclass__` wraps those two there.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from celery.exceptions import TaskRevokedError, TimeLimitExceeded
from celery.utils.imports import symbol_by_name

from .._core.commands import SlotRequest
from .._core.policy import Policy
from .._runtime.runtime import Runtime
from .._runtime.slot import Slot
from .._worker.requests import ask_for, ask_for_parked, default_on_full, priority_of
from .app import runtime_of, takes_task, task_policy
from .envelope import queue_of, sealed

# A header: "id of attempt/times put off/what is known of the message". That is 1: a copy; "n<ms>-<bond>+<pool>": a
# hint, whose message that pool has had for so many milliseconds, and whom its slot is bound to; else 0.
ATTEMPT = "cachify_attempt"


def attempt_id(request: Any, *, next_turn: bool = False) -> str:
    """Task id and attempt: retries keep the id, `self.replace` keeps the id and the retries.

    One that was put off when its turn had come is told apart, too: its new message may arrive before the slot of that
    turn is free, and must not be taken for a copy.
    """
    turn = _marks(request)[2] + next_turn
    return _attempt(request) + (f"~{turn}" if turn else "")


def _attempt(request: Any) -> str:
    nesting = request.replaced_task_nesting
    return f"{request.id}:{request.request_dict.get('retries') or 0}" + (f".{nesting}" if nesting else "")


class _Gated:
    """Mixed into a task's Request class."""

    slot: Slot | None = None  # held for this request
    ticket: Any = None  # stands for its message, if the store keeps it
    ask: SlotRequest | None = None  # the arrival's command: one nonce, however often it is sent
    gate_here: Any = None  # the gate of the worker that this request came to
    time_limit_hit = False  # its process is being killed
    passed_on = False  # a heir that another worker is to run
    queued = False  # in the pool's own queue
    marks: tuple[int, str, int] | None = None  # what its header says, read once

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.received = time.monotonic()
        super().__init__(*args, **kwargs)

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

    def revoked(self) -> bool:
        """Of a hint the store is asked first: its task may have run meanwhile, or run now."""
        if self.ticket is None and is_nudge(self):
            return False
        return bool(super().revoked())  # type: ignore[misc]

    def reject(self, requeue: bool = False) -> Any:
        if requeue:  # freed before it comes again, and remembered as not ended
            _end(self, requeue=True)
        return super().reject(requeue=requeue)  # type: ignore[misc]

    def cachify_ask(self) -> SlotRequest | None:
        """The command by which this arrival asks for a slot; None: its task has no pool, and it was not parked.

        Raises:
            TypeError, ValueError: the message's arguments do not fit the function or its key.
        """
        if self.ask is None:
            policy, runtime = task_policy(self.task), runtime_of(self.app)  # type: ignore[attr-defined]
            if self.ticket is not None or is_nudge(self):
                self.ask = self._ask_for_parked(runtime, policy)
            elif policy is not None:
                self.ask = self._ask_for(runtime, policy)
        return self.ask

    def _ask_for_parked(self, runtime: Runtime, policy: Policy | None) -> SlotRequest:
        pool, bound = (self.ticket.pool, self.ticket.starter) if self.ticket else parked_in(self)
        return ask_for_parked(runtime, policy, pool, holder=attempt_id(self), label=self._label, bound=bound)

    def _ask_for(self, runtime: Runtime, policy: Policy) -> SlotRequest:
        request: Any = self
        args = (request.task, *request.args) if takes_task(request.task, policy) else tuple(request.args)
        kwargs, copy = request.kwargs or {}, is_copy(request) or _overstayed(request)
        priority, envelope, parking = 0, b"", policy.parks(default_on_full(runtime))
        if parking is not None or copy:  # a copy of a running task is kept until that has ended
            envelope = sealed(request.message, queue_of(request.message, self.gate_here.worker.consumer))
        if parking is not None and envelope:
            given = message_priority(request) if parking.priority == "message" else 0
            priority = priority_of(parking, tuple(request.args), kwargs, given)
        return ask_for(
            runtime, policy, args, kwargs, holder=attempt_id(request), label=self._label, copy=copy, envelope=envelope,
            parking=parking if envelope else None, priority=priority,
        )  # fmt: skip

    @property
    def _label(self) -> str:
        request: Any = self
        return f"{request.name} @{request.hostname}"


def _asking(cls: type, dispatch: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(dispatch)
    def execute_using_pool(self: Any, pool: Any, **kwargs: Any) -> Any:
        self.queued = True
        try:
            return pool.cachify_gate.arrived(self, cls, lambda: dispatch(self, pool, **kwargs))
        except TaskRevokedError:
            pool.cachify_gate.heirs.begun(self)
            raise

    return execute_using_pool


def _ending(on_success: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(on_success)
    def ended(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return on_success(self, *args, **kwargs)
        finally:
            _end(self)

    return ended


def _end(request: Any, *, requeue: bool = False) -> None:
    slot, request.slot = request.slot, None
    if slot is not None:
        # Not acknowledged (a cancelled run): its message comes again, and must not be taken for a copy.
        request.gate_here.ended(request, slot, requeue=requeue or not request.acknowledged)


@functools.cache
def gated(base: type) -> type:
    """A subclass of a Request class whose requests ask for a slot."""
    return type(f"Gated{base.__name__}", (_Gated, base), {"__module__": __name__})


def gate(task: Any) -> None:
    """Have this task's requests ask for a slot, in workers that start from now on."""
    base = symbol_by_name(task.Request)
    if not issubclass(base, _Gated):
        task.Request = gated(base)


def message_priority(request: Any) -> int:
    """The message's priority, larger for what its broker delivers first; with Redis that is the smaller number."""
    given, conf = int(request.delivery_info.get("priority") or 0), request.app.conf
    url = str(conf.broker_read_url or conf.broker_url or "")
    return 9 - min(given, 9) if url.startswith(("redis", "sentinel")) else given


def is_gated(task: Any) -> bool:
    return issubclass(symbol_by_name(task.Request), _Gated)


def _marks(request: Any) -> tuple[int, str, int]:
    """How often this attempt was put off, what is known of its message, and how many turns it had."""
    if request.marks is None:
        value = request.request_dict.pop(ATTEMPT, None)  # not for the task's eyes, nor for the message of its retry
        attempt, count, kind = [*str(value or "").rsplit("/", 2), "", ""][:3]
        known = _attempt(request)
        turn = attempt[len(known) + 1 :] if attempt.startswith(f"{known}~") else "0"
        good = attempt in (known, f"{known}~{turn}") and count.isdigit() and turn.isdigit()
        request.marks = (int(count), kind, int(turn)) if good else (0, "", 0)
    return request.marks  # type: ignore[no-any-return]


def attempts(request: Any) -> int:
    """How often this attempt was put off because its pool was full."""
    return _marks(request)[0]


def is_copy(request: Any) -> bool:
    """Has the broker delivered this message before?"""
    return bool(request.delivery_info.get("redelivered")) or _marks(request)[1] == "1"


def _overstayed(request: Any) -> bool:
    """Has it waited here for a place so long that its broker has taken it for lost and may have delivered it again?"""
    timeout = getattr(getattr(request.message, "channel", None), "visibility_timeout", None)
    return timeout is not None and time.monotonic() - request.received >= timeout


def take_for_copy(request: Any) -> None:
    """Have the message that puts this attempt off count as one that the broker may have delivered before."""
    count, _, turn = _marks(request)
    request.marks = count, "1", turn


def is_nudge(request: Any) -> bool:
    """Is the message only a hint: does the store have the one that counts?"""
    return _marks(request)[1].startswith("n")


def is_hint(headers: Mapping[str, Any]) -> bool:
    """The same of a message that no request has been made of."""
    return str(headers.get(ATTEMPT) or "").rpartition("/")[2].startswith("n")


def waited_ms(request: Any) -> int:
    """How long the store has had the message of this hint."""
    waited = _marks(request)[1][1:].partition("-")[0]
    return int(waited) if waited.isdigit() else 0


def parked_in(request: Any) -> tuple[str, str]:
    """The pool in which the task of this hint is parked, and whom the slot is bound to that is reserved for it."""
    known, _, pool = _marks(request)[1].partition("+")
    return unquote(pool), known.partition("-")[2]


def nudged(holder: str, mark: object, waited_ms: int, pool: str, starter: str) -> str:
    """The header of a hint to start this holder, whose own message has the header `mark`."""
    attempt, count = [*str(mark or "").rsplit("/", 2), "", ""][:2]
    times = count if attempt == holder and count.isdigit() else 0
    return f"{holder}/{times}/n{waited_ms}-{starter}+{quote(pool, safe='')}"


def marked(request: Any, count: int) -> str:
    """The header of the message that puts this attempt off once more. What the store has handed over is no copy."""
    owned = request.ticket is not None
    return f"{attempt_id(request, next_turn=owned)}/{count}/{int(is_copy(request) and not owned)}"
