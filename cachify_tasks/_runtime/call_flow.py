"""The flow of one call of a function in a pool: ask, run or do what was decided, free the slot, keep the result."""

from __future__ import annotations

import pickle
import time
from typing import Any

from .._core.admission import Admission, admission
from .._core.commands import Acquire, Get, Put, Reply, SlotRequest
from .._core.decisions import Decision, Defer, FullPool, Invoke, RaiseFull, Recall, Skip, Waiting
from .._core.flows import Abandoned, Flow, Run, enter, hold, patient
from .._core.policy import Policy
from .._core.wait_flow import queue_up
from ..errors import CachifyPoolFullError, CachifyStoreError
from ..settings import UNSET
from .runtime import Runtime, global_runtime
from .slot import Slot, current


def call_flow(policy: Policy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Runtime, Flow[Any]]:
    """The engine and the flow of one call of a gated function."""
    admitted = admission(policy)
    if admitted is not None and not admitted.inline:
        return admitted.runtime, _admitted(policy, admitted, args, kwargs)
    runtime = admitted.runtime if admitted else policy.runtime or global_runtime()
    return runtime, _gated(policy, runtime, args, kwargs, admitted.default if admitted else UNSET)


def _gated(policy: Policy, runtime: Runtime, args: tuple[Any, ...], kwargs: dict[str, Any], default: Any) -> Flow[Any]:
    key = policy.key.resolve(args, kwargs)
    keep = _keeping(policy, default, args, kwargs)
    ask = runtime.ask(key, policy.max_size, policy.slot_exp_ms, policy.name)

    def inside(found: Any) -> Flow[Any]:
        if isinstance(found, Reply):
            full = FullPool(key, found.limit, found.held)
            decision = policy.decide(full, default)
            runtime.full(key, found.limit, f"{policy.name} -> {type(decision).__name__}")
            return (yield from _answer(policy, decision, args, kwargs, full)), False
        return (yield from _run(policy, found, args, kwargs)), True

    result, ran = yield from hold(runtime, asking(runtime, ask, policy.waits(default)), inside)
    if ran and keep is not None:
        yield from _remember(runtime, *keep, result)
    return result


def _run(policy: Policy, slot: Slot | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow[Any]:
    """Run the function; `current_slot()` in it is this slot."""
    before = current.get()
    try:  # each way out begins with one call, which a signal can strike before or after, not in the middle
        current.set(slot)
        result = yield Run(policy.function, args, kwargs)
    except Abandoned:
        raise  # closed from elsewhere: the context is not ours
    except BaseException:
        current.set(before)
        raise
    current.set(before)
    return result


def _admitted(policy: Policy, admitted: Admission, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow[Any]:
    """The worker's main process has asked already, and holds the slot."""
    if admitted.decision is not None and admitted.full is not None:
        return (yield from _answer(policy, admitted.decision, args, kwargs, admitted.full))
    keep = _keeping(policy, admitted.default, args, kwargs)
    result = yield from _run(policy, admitted.slot, args, kwargs)
    if keep is not None:
        yield from _remember(admitted.runtime, *keep, result)
    return result


def _answer(
    policy: Policy, decision: Decision, args: tuple[Any, ...], kwargs: dict[str, Any], full: FullPool
) -> Flow[Any]:
    """Act on a decision where the function would have run."""
    match decision:
        case RaiseFull(why):
            raise _full_error(full, why)
        case Skip(result):
            return None if result is UNSET else result
        case Defer():
            raise _full_error(full, "it can be rescheduled only by a worker, and this call is not made by one")
        case Invoke(callback):
            return (yield Run(callback, _own(policy, args), kwargs))
        case Recall(default=default):
            value = yield Get(policy.memory_key(decision, args, kwargs))
            if value is not None:
                return pickle.loads(value)
            if default is UNSET:
                raise _full_error(full, "there is no earlier result of this call, and no default")
            return default


def _full_error(full: FullPool, why: str) -> CachifyPoolFullError:
    message = f"pool {full.key!r} is full: {full.held} of {full.limit} slots are taken{'; ' * bool(why)}{why}"
    return CachifyPoolFullError(message, full.key, full.limit, full.held)


def _own(policy: Policy, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The call's own arguments: without the Task instance that Celery puts in front for `bind=True`."""
    run = getattr(args[0], "run", None) if args else None
    bound = getattr(run, "__self__", None) is not None and getattr(run, "__cachify__", None) is policy
    return args[1:] if bound else args


def _keeping(
    policy: Policy, default: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str, int | None] | None:
    """Where and how long this call's result is kept, if it is; found before the run, which an error must not follow."""
    recall = policy.keeps(default)
    return None if recall is None else (policy.memory_key(recall, args, kwargs), recall.ttl_ms)


def _remember(runtime: Runtime, name: str, ttl_ms: int | None, result: Any) -> Flow[None]:
    try:
        value = pickle.dumps(result)
    except Exception as error:  # noqa: BLE001  # whatever a result raises when it is pickled; the run has succeeded
        runtime.unkept(name, error)
        return
    try:
        yield Put(name, value, ttl_ms)
    except CachifyStoreError as error:
        runtime.unreachable(error, "keeping a last good result")


def asking(runtime: Runtime, ask: Acquire, waiting: Waiting | None = None) -> Flow[Any]:
    """`enter`, with what `on_store_error` says of plain calls: None is "go on without a slot".

    waiting: how to wait in the pool's queue; who has waited in vain gets the answer of one who has found it full.
    """
    choice = runtime.settings.on_store_error
    timeout_ms = None if waiting is None else waiting.timeout_ms
    until = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000

    def retries(error: CachifyStoreError) -> bool:
        again = choice == "retry" and (until is None or time.monotonic() < until)
        if again:
            runtime.unreachable(error, f"acquiring a slot of {ask.pool!r}, trying again")
        return again

    def once(ask: SlotRequest) -> Flow[Any]:
        return patient(lambda: enter(runtime, ask), retries)

    try:
        if waiting is None or timeout_ms == 0:
            return (yield from once(ask))
        return (yield from queue_up(runtime, ask, once, until))
    except CachifyStoreError as error:
        if choice != "run":
            raise
        runtime.unreachable(error, f"acquiring a slot of {ask.pool!r}, running without one")
        return None
