"""Where a task runs in its worker's process or in one of a pool: what was decided is handed to its function, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .._adapters import Admission, place
from .._core.commands import SlotRequest
from .._core.policy import Policy, policy_of
from .._runtime.instances import global_runtime
from .._runtime.runtime import Runtime, runtimes
from .._runtime.slot import Slot
from ..errors import CachifyStoreError
from .held_slots import TOMB_MS
from .limits import TaskLimit, default_on_full
from .verdicts import Fail, StartWith, Verdict

if TYPE_CHECKING:
    from .loop_delivery import LoopDelivery


@dataclass(slots=True)
class _Run:
    """A run that may begin.

    Attributes:
        delivery: None: it is run in a process of a process pool.
        place: where its slots are.
        used: the function was called; it may call itself, and that is a direct call.
    """

    policy: Policy
    decided: Callable[[], Admission]
    delivery: LoopDelivery | None = None
    place: tuple[str, str] = ("", "")
    used: bool = False


_run: ContextVar[_Run | None] = ContextVar("cachify_run", default=None)


def probe(policy: Policy) -> Admission | None:
    """What was decided about the call of this policy's function that is being made; None: it is another call."""
    run = _run.get()
    if run is None or run.used or run.policy is not policy:
        return None
    run.used = True
    return run.decided()


@contextmanager
def admitted(runtime: Runtime, delivery: LoopDelivery) -> Iterator[None]:
    """The framework runs the task of this delivery in here."""
    policy = delivery.policy
    if policy is None:  # its pool was taken away while it was parked
        yield
        return
    decided = partial(_decided, runtime, policy, delivery.state.slot, delivery.verdict)
    before = _run.set(_Run(policy, decided, delivery, place(runtime)))
    try:
        yield
    finally:
        _run.reset(before)


def _decided(runtime: Runtime, policy: Policy, slot: Slot | None, verdict: Verdict) -> Admission:
    match verdict:
        case StartWith(full):
            return Admission(runtime, full=full, decision=TaskLimit.of(policy, runtime).decide(full))
        case Fail("store", message):
            raise CachifyStoreError(message)
        case Fail(_, message):
            return Admission(runtime, key_error=ValueError(message))
        case _:
            return Admission(runtime, slot, default=default_on_full(runtime))


def running() -> LoopDelivery | None:
    """The delivery whose task is about to be run."""
    run = _run.get()
    return None if run is None or run.used else run.delivery


@dataclass(frozen=True, slots=True)
class Carried:
    """A task's function on its way to a process of a process pool, with what was decided about its run."""

    function: Callable[..., object]
    place: tuple[str, str]
    command: SlotRequest | None
    token: int
    verdict: Verdict

    def __call__(self, *args: object, **kwargs: object) -> object:
        policy = policy_of(self.function)
        assert policy is not None, "it was found where it comes from"
        runtime = _runtime_at(self.place)
        slot = None if self.command is None else Slot(runtime.store, self.command, self.token, TOMB_MS)
        before = _run.set(_Run(policy, partial(_decided, runtime, policy, slot, self.verdict)))
        try:
            return self.function(*args, **kwargs)
        finally:
            _run.reset(before)


def _runtime_at(where: tuple[str, str]) -> Runtime:
    """A runtime of this process that has its slots there."""
    for runtime in runtimes():
        if place(runtime) == where:
            return runtime
    return global_runtime()


def carried(args: tuple[object, ...]) -> tuple[object, ...]:
    """Arguments for another process, in which nothing is known of this run: with its function goes what was decided."""
    run = _run.get()
    if run is None or run.delivery is None:
        return args
    slot, verdict = run.delivery.state.slot, run.delivery.verdict
    command, token = (None, 0) if slot is None else (slot.request, slot.token)

    def with_decision(part: object) -> object:
        if callable(part) and policy_of(part) is run.policy:
            return Carried(part, run.place, command, token, verdict)
        return part

    return tuple(with_decision(part) for part in args)
