"""The flow of one call of a function in a pool: ask, run or do what was decided, free the slot, keep the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from .._adapters import Admission, admission
from .._core.commands import Acquire
from .._core.decisions import Decision, Defer, FullPool, Invoke, RaiseFull, Recall, Skip, Strategy, waiting_of
from .._core.flows import Abandoned, Flow, Run, hold
from .._core.policy import Policy
from .._core.replies import Reply
from ..settings import UNSET, Unset
from .acquiring import acquiring
from .direct_calls import acquire_command
from .events import PoolFull
from .instances import global_runtime
from .kept_results import KeptResult, kept_result, recall_result, remember
from .slot import Slot, caller, current

if TYPE_CHECKING:
    from .runtime import Runtime


def call_flow(policy: Policy, args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[Runtime, Flow[object]]:
    """The flow of one call of a function in a pool, and the runtime that it is for."""
    admitted = admission(policy)
    if admitted is None:
        return _direct_call(policy, policy.runtime or global_runtime(), UNSET, args, kwargs)
    if admitted.inline:
        return _direct_call(policy, admitted.runtime, admitted.default, args, kwargs)
    return admitted.runtime, _admitted_call(policy, admitted, args, kwargs)


def _direct_call(
    policy: Policy, runtime: Runtime, default: Strategy | Unset | None, args: tuple[object, ...],
    kwargs: dict[str, object],
) -> tuple[Runtime, Flow[object]]:  # fmt: skip
    """No worker has asked for a slot: ask here."""
    key = policy.key.resolve(args, kwargs)
    strategy = policy.strategy(default)
    waiting = None if strategy is None else waiting_of(strategy)
    recall = None if strategy is None else strategy.keeps()
    kept = None if recall is None else kept_result(policy, recall, args, kwargs)
    request = acquire_command(
        runtime, pool=key, limit=policy.max_size, slot_exp_ms=policy.slot_exp_ms, label=policy.name
    )
    refused = False

    def body(found: Slot | Reply | None) -> Flow[object]:
        if not isinstance(found, Reply):
            return _run(policy, found, args, kwargs)
        nonlocal refused
        refused = True
        return _refused(policy, runtime, default, request, found, args, kwargs)

    flow = hold(runtime.keeper, acquiring(runtime, request, waiting), body)
    if kept is None:
        return runtime, flow

    def keeping(kept: KeptResult) -> Flow[object]:
        result = yield from flow
        if not refused:
            yield from remember(runtime, kept, result)
        return result

    return runtime, keeping(kept)


def _admitted_call(
    policy: Policy, admitted: Admission, args: tuple[object, ...], kwargs: dict[str, object]
) -> Flow[object]:
    """The worker has asked already, and holds the slot."""
    if admitted.key_error is not None and policy.key.fits(args, kwargs):
        raise admitted.key_error
    if admitted.decision is not None and admitted.full is not None:
        return (yield from _instead(policy, admitted.decision, args, kwargs, admitted.full))
    recall = policy.keeps(admitted.default)
    kept = None if recall is None else kept_result(policy, recall, args, kwargs)
    if admitted.slot is not None:
        admitted.slot.owner = caller()
    result = yield from _run(policy, admitted.slot, args, kwargs)
    if kept is not None:
        yield from remember(admitted.runtime, kept, result)
    return result


def _run(policy: Policy, slot: Slot | None, args: tuple[object, ...], kwargs: dict[str, object]) -> Flow[object]:
    """Run the function; `current_slot()` in it is this slot."""
    before = current.get()
    try:  # each way out begins with one call, which a signal can strike before or after, not in the middle
        if slot is not None:
            slot.outer = before
        current.set(slot)
        result = yield Run(policy.function, args, kwargs)
    except Abandoned:
        raise  # closed from elsewhere: the context is not ours
    except BaseException:
        current.set(before)
        raise
    current.set(before)
    return result


def _refused(
    policy: Policy, runtime: Runtime, default: Strategy | Unset | None, request: Acquire, reply: Reply,
    args: tuple[object, ...], kwargs: dict[str, object],
) -> Flow[object]:  # fmt: skip
    """The pool is full: let the strategy decide."""
    full = FullPool(request.pool, reply.limit, reply.held)
    decision, strategy = policy.decide(full, default), policy.strategy(default)
    runtime.emit(
        PoolFull(
            pool=request.pool, holder=request.holder, label=request.label, limit=reply.limit, held=reply.held,
            decision=type(decision).__name__, strategy=repr(strategy),
            by_default=policy.on_full is UNSET and strategy is None,
        )
    )  # fmt: skip
    return (yield from _instead(policy, decision, args, kwargs, full))


def _instead(
    policy: Policy, decision: Decision, args: tuple[object, ...], kwargs: dict[str, object], full: FullPool
) -> Flow[object]:
    """Act on a decision where the function would have run."""
    match decision:
        case RaiseFull(why):
            raise full.as_error(why)
        case Skip(result):
            return None if result is UNSET else result
        case Defer():
            raise full.as_error("it can be rescheduled only by a worker, and this call is not made by one")
        case Invoke(callback):
            return (yield Run(callback, _own_args(policy, args), kwargs))
        case Recall():
            return (yield from recall_result(policy, decision, args, kwargs, full))
        case _:
            assert_never(decision)


def _own_args(policy: Policy, args: tuple[object, ...]) -> tuple[object, ...]:
    """The call's own arguments: without the object whose bound method `run` is the function.

    A task framework may pass the task itself to the function, in front of what the caller has given.
    """
    run = getattr(args[0], "run", None) if args else None
    passed = getattr(run, "__self__", None) is not None and getattr(run, "__cachify__", None) is policy
    return args[1:] if passed else args
