"""What the adapters of task frameworks share: who asks for a slot, and what is done with the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._core.commands import Acquire, Reply
from .._core.decisions import Decision, FullPool, Parking, Strategy
from .._core.policy import Policy
from .._runtime.runtime import Engine, names
from .._runtime.slot import Slot
from ..settings import UNSET
from ..strategies import Park

TOMB_MS: Final = 300_000  # how long a late copy of a task that has ended is recognised and dropped
TOP: Final = 255  # of priorities
DEFAULT_ON_FULL: Final = Park()


def policy_of(function: Any) -> Policy | None:
    """The policy of what `pooled` made, if it is one; also through a bound method or functools.wraps."""
    policy = getattr(function, "__cachify__", None)
    return policy if isinstance(policy, Policy) else None


def default_on_full(engine: Engine) -> Strategy | None:
    """The strategy of tasks that name none."""
    default = engine.settings.default_on_full
    return DEFAULT_ON_FULL if default is UNSET else default


def ask_for(
    engine: Engine,
    policy: Policy,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    holder: str,
    label: str,
    copy: bool,
    envelope: bytes = b"",
    parking: Parking | None = None,
    priority: int = 0,
) -> Acquire:
    """The command by which a task's arrival asks for a slot.

    Args:
        args, kwargs: as the function takes them, a bound task's instance included.
        holder: the task's id and attempt.
        copy: the broker says that this message has been delivered before; only then can it be a late copy of an attempt
            that has ended. A program may well send one id again on purpose.
        envelope: the message, for the store to keep while it waits.
        parking: how it waits when the pool is full; None: it does not.

    Raises:
        TypeError, ValueError: the arguments do not fit the function or the key, or make a name that is no Unicode.
    """
    key = policy.key.resolve(args, kwargs)
    max_parked = parking.max_parked if parking else 0
    return _ask(
        engine, policy, key, holder, label, envelope=envelope, park=parking is not None, priority=priority,
        max_parked=max_parked, fresh=not copy,
    )  # fmt: skip


def ask_for_parked(engine: Engine, policy: Policy | None, pool: str, *, holder: str, label: str, bound: str) -> Acquire:
    """The command by which a parked task asks for the slot that is reserved for it, in the pool where it was parked.

    Args:
        policy: as it is now: its key may have changed since; None: the task has no pool any more.
        bound: whom its reserved slot is bound to.

    Raises:
        ValueError: a name is no Unicode.
    """
    return _ask(engine, policy, pool, holder, label, nudge=True, bound=bound)


def _ask(engine: Engine, policy: Policy | None, pool: str, holder: str, label: str, **more: Any) -> Acquire:
    for name in (pool, holder, label, more.get("bound", "")):
        name.encode()  # what cannot be sent fails here, and not those that would be sent with it
    hard = engine.slot_exp_ms if policy is None or policy.slot_exp_ms is UNSET else policy.slot_exp_ms
    limit = 0 if policy is None else policy.max_size
    lives = engine.lease_ms, engine.start_ms, hard or 0
    return Acquire(pool, holder, names.next(), limit, *lives, label, starts=True, **more)


def slot_for(engine: Engine, ask: Acquire, token: int) -> Slot:
    """The handle of a task's slot. It is renewed by whoever gives it to the heart."""
    return Slot(engine.store, ask.pool, ask.holder, token, ask.rid, ask.lease_ms, ask.start_ms, TOMB_MS)


def decide(engine: Engine, policy: Policy, full: FullPool) -> Decision:
    """What a task does that found its pool full, and its queue, if it waits in one."""
    default = default_on_full(engine)
    parking = policy.parks(default)
    return policy.decide(full, default) if parking is None else parking.then.decide(full)


def priority_of(parking: Parking, args: tuple[Any, ...], kwargs: Mapping[str, Any], message: int) -> int:
    """The place of a task among those that wait.

    Raises:
        TypeError, ValueError: what the user's function gave is no priority.
    """
    if parking.priority is None:
        return 0
    value = message if parking.priority == "message" else parking.priority(*args, **kwargs)  # type: ignore[operator]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= TOP:
        raise ValueError(f"the priority of a parked task must be an int from 0 to {TOP}, not {value!r}")
    return int(value)  # an IntEnum cannot be sent


def full_pool(ask: Acquire, reply: Reply, attempt: int) -> FullPool:
    return FullPool(ask.pool, reply.limit, reply.held, attempt)
