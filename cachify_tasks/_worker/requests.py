"""What the adapters of task frameworks share: who asks for a slot, and what is done with the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._core.commands import Acquire, Reply, SlotRequest, StartReserved, Ticket
from .._core.decisions import Decision, FullPool, Parking, Strategy
from .._core.policy import Policy
from .._runtime.direct_calls import names
from .._runtime.runtime import Runtime
from .._runtime.slot import Slot
from ..settings import UNSET, Unset
from ..strategies import Park

TOMB_MS: Final = 300_000  # how long a late copy of a task that has ended is recognised and dropped
TOP: Final = 255  # of priorities
DEFAULT_ON_FULL: Final = Park()


def policy_of(function: Any) -> Policy | None:
    """The policy of what `pooled` made, if it is one; also through a bound method or functools.wraps."""
    policy = getattr(function, "__cachify__", None)
    return policy if isinstance(policy, Policy) else None


def default_on_full(runtime: Runtime) -> Strategy | None:
    """The strategy of tasks that name none."""
    default = runtime.settings.default_on_full
    return DEFAULT_ON_FULL if default is UNSET else default


def ask_for(
    runtime: Runtime,
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
    _check_text(key, holder, label)
    ticket = None
    if envelope:
        max_parked = parking.max_parked if parking else 0
        park = parking is not None
        ticket = Ticket(kind="", envelope=envelope, park=park, priority=priority, max_parked=max_parked)
    return Acquire(
        pool=key, holder=holder, request_id=names.next(), limit=policy.max_size, lease_ms=runtime.lease_ms,
        start_ms=runtime.start_ms, slot_exp_ms=_slot_exp_ms(runtime, policy), label=label,
        first_delivery=not copy, can_start_heirs=True, ticket=ticket,
    )  # fmt: skip


def ask_for_parked(
    runtime: Runtime, policy: Policy | None, pool: str, *, holder: str, label: str, bound: str
) -> StartReserved:
    """The command by which a parked task asks for the slot that is reserved for it, in the pool where it was parked.

    Args:
        policy: as it is now: its key may have changed since; None: the task has no pool any more.
        bound: whom its reserved slot is bound to.

    Raises:
        ValueError: a name is no Unicode.
    """
    _check_text(pool, holder, label, bound)
    return StartReserved(
        pool=pool, holder=holder, request_id=names.next(), limit=policy.max_size if policy else 0,
        lease_ms=runtime.lease_ms, start_ms=runtime.start_ms, slot_exp_ms=_slot_exp_ms(runtime, policy), label=label,
        can_start_heirs=True, starter=bound,
    )  # fmt: skip


def _check_text(*names: str) -> None:
    """Fail now, for this request alone, if a name cannot be sent: not later, for a whole batch."""
    for name in names:
        name.encode()


def _slot_exp_ms(runtime: Runtime, policy: Policy | None) -> int:
    hard = runtime.slot_exp_ms if policy is None or isinstance(policy.slot_exp_ms, Unset) else policy.slot_exp_ms
    return hard or 0


def slot_for(runtime: Runtime, ask: SlotRequest, token: int) -> Slot:
    """The handle of a task's slot. It is renewed by whoever gives it to the heart."""
    return Slot(runtime.store, ask, token, tomb_ms=TOMB_MS)


def decide(runtime: Runtime, policy: Policy, full: FullPool) -> Decision:
    """What a task does that found its pool full, and its queue, if it waits in one."""
    default = default_on_full(runtime)
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


def full_pool(ask: SlotRequest, reply: Reply, attempt: int) -> FullPool:
    return FullPool(ask.pool, reply.limit, reply.held, attempt)
